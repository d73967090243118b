/** Ports for test servers: free now, below the kernel's ephemeral range. */
export { freePort } from '../../bin/setup/ports.ts';
