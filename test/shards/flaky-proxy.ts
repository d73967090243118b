import { type AddressInfo, createConnection, createServer, type Socket } from 'node:net';

export type FlakyProxy = {
  readonly url: string;
  /** From now on requests pass, but their answers are lost, and the connection with them. */
  loseReplies(isOn: boolean): void;
  close(): Promise<void>;
};

/** A TCP proxy in front of a Redis on this machine. */
export async function startFlakyProxy(port: number): Promise<FlakyProxy> {
  const sockets = new Set<Socket>();
  let isLosing = false;
  const server = createServer((client) => {
    const upstream = createConnection({ port, host: '127.0.0.1' });
    const pair = [client, upstream];
    for (const socket of pair) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        for (const other of pair) other.destroy();
        sockets.delete(socket);
      });
    }
    client.pipe(upstream);
    upstream.on('data', (data) => {
      if (isLosing) client.destroy();
      else client.write(data);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  return {
    url: `redis://127.0.0.1:${address.port}`,
    loseReplies: (isOn) => {
      isLosing = isOn;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
