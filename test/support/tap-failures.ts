const linesMax = 25;
const columnsMax = 400;

/**
 * What did not hold, from TAP (https://testanything.org/tap-version-14-specification.html): each `not ok` with its
 * diagnostics but for the source, which is at hand. Short enough to be read where only the end of a long run is kept.
 */
export function tapFailures(output: string): readonly string[] {
  const lines = output.split('\n');
  return lines.flatMap((line, index) => {
    if (!/^ *not ok /.test(line)) return [];
    const shown = [line];
    const indent = `${/^ */.exec(line)?.[0] ?? ''}  `;
    if (lines[index + 1] === `${indent}---`) {
      let inSource = false;
      for (const detail of lines.slice(index + 2)) {
        if (detail === `${indent}...`) break;
        if (detail.startsWith(indent) && detail[indent.length] !== ' ' && detail.trim() !== '')
          inSource = detail.startsWith(`${indent}source:`);
        if (!inSource) shown.push(detail);
      }
    }
    return shown.slice(0, linesMax).map((text) => text.slice(0, columnsMax));
  });
}
