/** The replica process. */
export async function runReplica(): Promise<void> {
  process.exit(1);
}
