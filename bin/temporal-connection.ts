import { readFileSync } from 'node:fs';

import type { ConnectionOptions } from '@temporalio/client';

import type { TemporalConfig } from './config.ts';

/**
 * Options for `Connection.connect` (clients) and `NativeConnection.connect` (workers).
 * Certificate files are read now; throws when one cannot be read.
 */
export function temporalConnectionOptions(
  config: TemporalConfig,
): Pick<ConnectionOptions, 'address' | 'tls' | 'apiKey'> {
  const { address, apiKey, tls } = config;
  const withKey = apiKey === null ? {} : { apiKey };
  if (tls === null) return { address, ...withKey };
  const { clientCertFile, clientKeyFile, serverCaFile, serverName } = tls;
  return {
    address,
    ...withKey,
    tls: {
      ...(serverName === null ? {} : { serverNameOverride: serverName }),
      ...(serverCaFile === null ? {} : { serverRootCACertificate: readFileSync(serverCaFile) }),
      ...(clientCertFile === null || clientKeyFile === null
        ? {}
        : {
            clientCertPair: {
              crt: readFileSync(clientCertFile),
              key: readFileSync(clientKeyFile),
            },
          }),
    },
  };
}
