interface Finding {
  readonly what: string;
  readonly value: string;
  /** `null`: there is no figure for it. */
  readonly wanted: string | null;
  readonly good: boolean;
}

/** What was measured, against what is wanted. */
export class Findings {
  readonly #findings: Finding[] = [];
  readonly #say: (line: string) => void;

  /** `say`: told each line as it is found. */
  constructor(say: (line: string) => void = console.log) {
    this.#say = say;
  }

  note(what: string, value: string): void {
    this.#add({ what, value, wanted: null, good: true });
  }

  judge(what: string, value: string, wanted: string, good: boolean): void {
    this.#add({ what, value, wanted, good });
  }

  get good(): boolean {
    return this.#findings.every(({ good }) => good);
  }

  #add(finding: Finding): void {
    this.#findings.push(finding);
    this.#say(`  ${lineOf(finding)}`);
  }

  print(): void {
    this.#say(`\n${this.#findings.map(lineOf).join('\n')}\n`);
    this.#say(this.good ? 'PASS' : 'FAIL: not all is as wanted');
  }
}

const lineOf = ({ what, value, wanted, good }: Finding): string =>
  `${wanted === null ? '    ' : good ? 'PASS' : 'FAIL'}  ${what.padEnd(72)} ${value}${wanted === null ? '' : ` (wanted: ${wanted})`}`;
