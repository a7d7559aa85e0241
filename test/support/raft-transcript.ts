import { invariant } from '../../src/base/guards.js';
import type { Entry, LogPosition, MemberId, Membership, Message, Ready } from '../../src/raft/types.js';
import { decode, emptyDisk, encode, parseMembership, type RaftLimits, TestCluster } from './raft-cluster.js';

const limitNames: readonly (keyof RaftLimits)[] = [
  'electionTicks',
  'heartbeatTicks',
  'inflightMessagesMax',
  'inflightBytesMax',
  'appendBytesMax',
  'uncommittedBytesMax',
  'committedBytesMax',
];

/**
 * Golden transcripts: commands, each followed by `----`, what it printed, and an empty line.
 *
 * | command                                            | does                                                       |
 * | -------------------------------------------------- | ---------------------------------------------------------- |
 * | `members VOTERS [learners=IDS] [OPTION=NUMBER]`    | begins a cluster with empty logs                           |
 * | `member ID voters=IDS terms=N,… [term= commit= vote=]` | adds one with a log of entries of these terms          |
 * | `join ID`                                          | adds one that knows nothing                                |
 * | `campaign ID`, `tick ID [N]`, `propose ID TEXT`    |                                                            |
 * | `change ID voters=IDS [learners=IDS]`              | proposes a membership                                      |
 * | `read ID READ-ID`, `transfer ID TO`                |                                                            |
 * | `step-down ID`, `electable ID yes/no`              |                                                            |
 * | `compact ID`, `crash ID`                           | crash: starts again from the disk                          |
 * | `snapshot-report ID TO delivered/failed`           |                                                            |
 * | `unreachable ID TO`                                |                                                            |
 * | `ready ID`                                         | works off one Ready                                        |
 * | `persist ID`, `advance ID`                         | its two halves: persists and sends; applies and advances   |
 * | `deliver [LINKS]`, `drop LINKS`                    | messages under way; links: `1->2`, `1->*`, `*->2`          |
 * | `settle [IDS]`                                     | until nothing happens any more among these; else is lost   |
 * | `elect ID IDS`                                     | a campaign among these, until ID leads; else is lost       |
 * | `status`, `progress ID`, `log ID`, `state ID`      | print                                                      |
 *
 * `quietly` before a command drops what it prints.
 */
class Transcript {
  #cluster = new TestCluster();
  #lines: string[] = [];

  run(command: string): string {
    this.#lines = [];
    const [verb = '', ...words] = command.split(' ');
    if (verb === 'quietly') {
      this.run(words.join(' '));
      return 'ok';
    }
    this.#execute(verb, words);
    return this.#lines.length === 0 ? 'ok' : this.#lines.join('\n');
  }

  #print(line: string): void {
    this.#lines.push(line);
  }

  #execute(verb: string, words: readonly string[]): void {
    const [first = '', second = ''] = words;
    const cluster = this.#cluster;
    switch (verb) {
      case 'members':
        this.#begin(words);
        return;
      case 'member':
        this.#addWithLog(first, words.slice(1).join(' '));
        return;
      case 'join':
        cluster.add(first, emptyDisk({ voters: [], learners: [] }));
        return;
      case 'campaign':
        cluster.node(first).campaign();
        return;
      case 'tick':
        cluster.tick(first, second === '' ? 1 : Number(second));
        return;
      case 'propose':
        this.#propose(first, 'command', words.slice(1).join(' '));
        return;
      case 'change':
        this.#propose(first, 'membership', words.slice(1).join(' '));
        return;
      case 'read':
        cluster.node(first).readIndex(second);
        return;
      case 'transfer':
        this.#print(String(cluster.node(first).transferLeadership(second)));
        return;
      case 'step-down':
        cluster.node(first).stepDown();
        return;
      case 'electable':
        cluster.node(first).setElectable(second === 'yes');
        return;
      case 'compact':
        cluster.member(first).compact();
        return;
      case 'crash':
        cluster.member(first).restart();
        return;
      case 'snapshot-report':
        cluster.node(first).reportSnapshot(second, words[2] === 'delivered');
        return;
      case 'unreachable':
        cluster.node(first).reportUnreachable(second);
        return;
      default:
        this.#flow(verb, words);
    }
  }

  /** What moves messages, and what only looks. */
  #flow(verb: string, words: readonly string[]): void {
    const [first = ''] = words;
    const cluster = this.#cluster;
    switch (verb) {
      case 'ready':
        this.#printReady(cluster.process(first), '');
        return;
      case 'persist': {
        const member = cluster.member(first);
        const ready = member.take();
        member.persist();
        cluster.send(member, ready);
        this.#printReady(ready, '');
        return;
      }
      case 'advance':
        cluster.member(first).finish();
        return;
      case 'deliver':
        for (const message of cluster.deliver(onLinks(words))) this.#print(describeMessage(message));
        return;
      case 'drop':
        for (const message of cluster.take(onLinks(words))) this.#print(describeMessage(message));
        return;
      case 'settle':
        this.#settle(words.length === 0 ? [...cluster.members.keys()] : words);
        return;
      case 'elect':
        cluster.electOnly(first, words.slice(1));
        return;
      case 'status':
        for (const id of cluster.members.keys()) this.#print(this.#describeStatus(id));
        return;
      case 'progress':
        for (const peer of cluster.node(first).status().progress) {
          const notes = [
            peer.learner ? ' learner' : '',
            peer.recentlyActive ? '' : ' inactive',
            peer.inflightMessages > 0 ? ` inflight=${peer.inflightMessages}` : '',
            peer.lostAcknowledged ? ' lost-acknowledged' : '',
          ];
          this.#print(
            `${peer.memberId}: ${peer.state} match=${peer.matchIndex} next=${peer.nextIndex}${notes.join('')}`,
          );
        }
        return;
      case 'log':
        this.#printLog(first);
        return;
      case 'state':
        this.#print(cluster.member(first).state.commands.join(' '));
        return;
      default:
        throw new Error(`no such command: ${verb}`);
    }
  }

  #begin(words: readonly string[]): void {
    const [voters = '', ...rest] = words;
    const limits: Partial<RaftLimits> = {};
    for (const word of rest) {
      const name = limitNames.find((known) => word.startsWith(`${known}=`));
      if (name !== undefined) limits[name] = Number(word.slice(name.length + 1));
    }
    const { learners } = parseMembership(rest.join(' '));
    const ids = voters === 'none' ? [] : voters.split(',');
    this.#cluster = TestCluster.of(ids, limits, learners);
  }

  #addWithLog(id: MemberId, settings: string): void {
    const list = /terms=(\S*)/.exec(settings)?.[1] ?? '';
    const terms = list === '' ? [] : list.split(',').map(Number);
    const number = (name: string, otherwise: number): number =>
      Number(new RegExp(`(?:^| )${name}=(\\d+)`).exec(settings)?.[1] ?? otherwise);
    const entries: readonly Entry[] = terms.map((term, at) => ({
      index: at + 1,
      term,
      kind: 'command',
      data: encode(`${at + 1}.${term}`),
    }));
    this.#cluster.add(id, {
      ...emptyDisk(parseMembership(settings)),
      hardState: {
        term: number('term', terms.at(-1) ?? 0),
        votedFor: /vote=(\S+)/.exec(settings)?.[1] ?? null,
        commitIndex: number('commit', 0),
      },
      entries,
    });
  }

  #propose(id: MemberId, kind: 'command' | 'membership', command: string): void {
    const proposed = this.#cluster.node(id).propose(kind, encode(command));
    if (proposed.ok) this.#print(at(proposed.value));
    else if (proposed.error.kind === 'not-leader') this.#print(`not-leader, ask ${proposed.error.leader}`);
    else this.#print(proposed.error.kind);
  }

  #settle(among: readonly MemberId[]): void {
    const cluster = this.#cluster;
    for (let round = 0; ; round += 1) {
      invariant(round < 200, 'the cluster does not settle');
      let busy = false;
      for (const id of among) {
        while (cluster.node(id).hasReady()) {
          busy = true;
          this.#print(`${id} ready`);
          this.#printReady(cluster.process(id), '  ');
        }
      }
      cluster.take(({ from, to }) => !among.includes(from) || !among.includes(to));
      for (const id of among) {
        const delivered = cluster.deliver(({ to }) => to === id);
        if (delivered.length > 0) this.#print(`${id} receives`);
        for (const message of delivered) this.#print(`  ${describeMessage(message)}`);
        busy ||= delivered.length > 0;
      }
      if (!busy) return;
    }
  }

  #printReady(ready: Ready, indent: string): void {
    const { hardState, entries, snapshot, messages, committed, reads } = ready;
    const print = (line: string): void => this.#print(`${indent}${line}`);
    if (hardState !== null) {
      print(`term ${hardState.term} vote ${hardState.votedFor ?? '-'} commit ${hardState.commitIndex}`);
    }
    if (snapshot !== null)
      print(`restore ${at(snapshot.position)} ${describeMembership(snapshot.membership)}`);
    if (entries.length > 0) print(`append ${describeEntries(entries)}`);
    for (const message of messages) print(`send ${describeMessage(message)}`);
    if (committed.length > 0) print(`apply ${describeEntries(committed)}`);
    for (const { readId, index } of reads) print(`read ${readId} ${index ?? 'not now'}`);
  }

  #printLog(id: MemberId): void {
    const { firstIndex, lastIndex, commitIndex } = this.#cluster.node(id).status();
    for (let index = firstIndex; index <= lastIndex; index += 1) {
      const entry = this.#cluster.node(id).entry(index);
      if (entry !== null)
        this.#print(`${describeEntry(entry)}${index <= commitIndex ? '' : ' (uncommitted)'}`);
    }
  }

  #describeStatus(id: MemberId): string {
    const status = this.#cluster.node(id).status();
    const lastPosition = at({ index: status.lastIndex, term: status.lastTerm });
    const transfer = status.transferee === null ? '' : ` transferring to ${status.transferee}`;
    return `${id}: ${status.role} term=${status.term} leader=${status.leader ?? '-'} commit=${status.commitIndex} last=${lastPosition} ${describeMembership(status.membership)}${transfer}`;
  }
}

const at = ({ index, term }: LogPosition): string => `${index}@${term}`;

const describeMembership = ({ voters, learners }: Membership): string =>
  `voters=${voters.join(',')}${learners.length > 0 ? ` learners=${learners.join(',')}` : ''}`;

const describeEntry = (entry: Entry): string =>
  entry.kind === 'noop'
    ? `${at(entry)} noop`
    : `${at(entry)} ${entry.kind === 'membership' ? 'change ' : ''}"${decode(entry.data)}"`;

const describeEntries = (entries: readonly Entry[]): string => entries.map(describeEntry).join(', ');

function describeMessage(message: Message): string {
  return `${message.from}->${message.to} ${message.kind} term=${message.term}${details(message)}`;
}

function details(message: Message): string {
  switch (message.kind) {
    case 'preVote':
    case 'vote':
      return ` last=${at(message.lastLog)} committed=${at(message.committed)}${message.leadershipTransfer ? ' transfer' : ''}`;
    case 'preVoteResponse':
    case 'voteResponse':
      return `${message.granted ? ' granted' : ' refused'} committed=${at(message.committed)}`;
    case 'append': {
      const entries = message.entries.length === 0 ? '' : ` [${describeEntries(message.entries)}]`;
      return ` previous=${at(message.previous)} commit=${message.commitIndex}${entries}`;
    }
    case 'appendResponse':
      return message.rejected
        ? ` rejected=${message.index} hint=${at(message.hint)} last=${message.lastIndex}`
        : ` match=${message.index} last=${message.lastIndex}`;
    case 'heartbeat':
      return ` commit=${message.commitIndex} round=${message.readId}`;
    case 'heartbeatResponse':
      return ` round=${message.readId} last=${message.lastIndex}`;
    case 'snapshot':
      return ` ${at(message.position)} ${describeMembership(message.membership)}`;
    case 'readIndex':
      return ` ${message.readId}`;
    case 'readIndexResponse':
      return ` ${message.readId} ${message.index ?? 'not now'}`;
    case 'timeoutNow':
      return '';
  }
}

/** `1->2`, `1->*`, `*->2`; all without any. */
function onLinks(links: readonly string[]): (message: Message) => boolean {
  const pairs = links.map((link) => link.split('->'));
  const fits = (pattern: string | undefined, id: MemberId): boolean => pattern === '*' || pattern === id;
  return ({ from, to }) =>
    pairs.length === 0 || pairs.some(([left, right]) => fits(left, from) && fits(right, to));
}

/** Runs a transcript: as it was written, with what every command printed now. */
export function runTranscript(text: string): string {
  const transcript = new Transcript();
  const output: string[] = [];
  let expected = false;
  for (const line of text.split('\n')) {
    if (expected) {
      if (line !== '') continue;
      expected = false;
    }
    if (line === '' || line.startsWith('#')) {
      output.push(line);
    } else if (line === '----') {
      expected = true;
    } else {
      output.push(line, '----', ...transcript.run(line).split('\n'), '');
    }
  }
  // One empty line between blocks, one line break at the end.
  return `${output
    .join('\n')
    .replace(/\n{3,}/g, '\n\n')
    .trimEnd()}\n`;
}
