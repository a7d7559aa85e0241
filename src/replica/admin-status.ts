import { ok } from '../base/result.js';
import type { TokenStatus } from '../ops/state-link.js';
import { processName } from '../ops/supervision.js';
import type { AdminContext, AdminHandlers } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';
import { clusterFindings } from './cluster-findings.js';
import { diskSpaceFinding } from './disk-space.js';
import { ivFindings } from './iv-watch.js';

type NodeStatus = AdminResponse<'status'>;

const badness = { ACTIVE: 0, DEGRADED: 1, UNAVAILABLE: 2 } as const;

/** Each token once, as the process sees it that fares worst with it. */
function worstOfEach(tokens: readonly TokenStatus[]): TokenStatus[] {
  const byUri = new Map<string, TokenStatus>();
  for (const token of tokens) {
    const seen = byUri.get(token.uri);
    if (seen === undefined || badness[token.state] > badness[seen.state]) byUri.set(token.uri, token);
  }
  return [...byUri.values()];
}

/** Who is not ready, by reason. */
function reasonsOf(serving: NodeStatus['serving']): Map<string, string[]> {
  const reasons = new Map<string, string[]>();
  for (const { process, ready, reason } of serving) {
    if (ready === false) reasons.set(reason, [...(reasons.get(reason) ?? []), process]);
  }
  return reasons;
}

/** What an operator should look at. `unserving`: why this node must not serve, said already; empty when it may. */
function findings(
  status: Omit<NodeStatus, 'degraded'>,
  { unserving, isMember }: { readonly unserving: string; readonly isMember: boolean },
): string[] {
  const found: string[] = [];
  const { serving, servingProcesses, replica } = status;
  if (serving.every(({ ready }) => ready === false))
    found.push('no serving process is ready: this node serves no request');
  if (serving.length < servingProcesses.configured) {
    found.push(`${serving.length} of ${servingProcesses.configured} serving processes are connected`);
  }
  const unheard = serving.filter(({ ready }) => ready === null);
  if (unheard.length > 0) {
    found.push(`${unheard.map(({ process }) => process).join(', ')}: not heard of since the replica started`);
  }
  for (const [reason, processes] of reasonsOf(serving)) {
    if (reason !== unserving) found.push(`${processes.join(', ')}: not ready: ${reason}`);
  }
  for (const { process, appliedIndex } of serving) {
    if (appliedIndex < replica.appliedIndex) {
      found.push(`${process} has applied index ${appliedIndex}, the replica ${replica.appliedIndex}`);
    }
  }
  for (const { uri, label, state, reason } of status.tokens) {
    if (state === 'ACTIVE') continue;
    // Who is not ready for that very reason has said it.
    const isSaid = reason === null || found.some((finding) => finding.includes(reason));
    found.push(`token ${label ?? uri} is ${state}${isSaid ? '' : `: ${reason}`}`);
  }
  const isReachable = status.tokens.some(({ state }) => state !== 'UNAVAILABLE');
  // What is prepared is key state's to say, and a node that has none yet, or is out, can't be told.
  if (isMember && status.preparedTokens.length === 0 && isReachable) {
    found.push('no token is prepared: run `xksctl hsm prepare`');
  }
  return found;
}

export function statusHandler(context: AdminContext): AdminHandlers['status'] {
  const { node, publication, fleet, diskSpace, ivWatch } = context;
  return async () => {
    const serving = publication.links().map((link) => ({
      process: processName('serving', link.hello.slot),
      pid: link.hello.pid,
      version: link.hello.version,
      startedAtMs: link.hello.startedAtMs,
      ready: link.report?.readiness.ready ?? null,
      reason: link.report?.readiness.reason ?? 'it has not reported yet',
      appliedIndex: link.appliedIndex,
      tokens: [...(link.report?.tokens ?? [])],
    }));
    const status = {
      node: node.name,
      clusterId: context.state.cluster()?.clusterId ?? null,
      version: node.version,
      replica: { pid: process.pid, startedAtMs: node.startedAtMs, appliedIndex: context.state.appliedIndex },
      servingProcesses: fleet(),
      serving,
      tokens: worstOfEach(serving.flatMap(({ tokens }) => tokens)),
      preparedTokens: [...context.state.preparedTokens()].map(({ serial, label }) => ({ serial, label })),
      counts: context.state.counts(),
    };
    const { reason, fenced } = context.cluster.standing();
    const isMember = context.state.cluster() !== null && !fenced;
    const space = diskSpaceFinding(diskSpace.freeBytes);
    const degraded = [
      ...clusterFindings(context),
      ...findings(status, { unserving: reason, isMember }),
      ...(space === null ? [] : [space]),
      ...ivFindings(ivWatch.spent),
    ];
    return ok({ ...status, degraded });
  };
}
