/** A serving process. */
export async function runServingProcess(): Promise<void> {
  process.exit(1);
}
