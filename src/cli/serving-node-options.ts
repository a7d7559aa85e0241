/**
 * What a request leaves behind dies young. A young generation smaller than Node's is cleaned in less time than anybody
 * notices; one still smaller is cleaned so often that the walk over a large key state's pages, which each cleaning takes,
 * costs a tenth of the CPU. The helpers that share this work wait for cores that requests are using. The old generation
 * is collected when it has grown by a fifth (8 MB at least): HTTP/2 streams end up there, and the more of them there are
 * the longer they keep requests waiting. What a caller of `xksd` gives Node comes later, and counts.
 */
export const servingNodeOptions: readonly string[] = [
  '--max-semi-space-size=8',
  '--no-parallel-scavenge',
  '--heap-growing-percent=20',
];
