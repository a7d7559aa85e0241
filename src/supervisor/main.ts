import { randomUUID } from 'node:crypto';
import { resolve } from 'node:path';
import { systemClock } from '../base/clock.js';
import { loadNativeBinding } from '../base/native.js';
import { type Config, loadConfig, withoutPins } from '../ops/config.js';
import { createLogger, warnOfCoreDumps } from '../ops/logging.js';
import { createServiceNotifier } from '../ops/notify.js';
import type { ChildRole } from '../ops/supervision.js';
import { loadTlsFiles } from '../ops/tls-files.js';
import { softwareVersion } from '../ops/version.js';
import { type ChildCommand, type ChildHandle, type ChildOwner, spawnChild } from './child-process.js';
import { replicaSlot } from './child-record.js';
import { bindListeners } from './listeners.js';
import { Standby } from './standby.js';
import { StartPriority, startNiceness } from './start-priority.js';
import { Supervision, tickIntervalMs } from './supervision.js';
import { type Action, type Event, exitCodes } from './supervision-events.js';

export interface SupervisorOptions {
  readonly configPath: string;
  /** As `[log] trace_pkcs11`, whatever that says. */
  readonly tracePkcs11: boolean;
  readonly childCommand: ChildCommand;
  /** What stands in the way of starting this node at all; asked before anything is started. */
  readonly obstacle: (config: Config) => Promise<string | null>;
}

/**
 * Runs a node until it is told to stop. What is wrong with the configuration, the TLS files or the addresses is one
 * line on standard error. @returns the exit code (`exitCodes`).
 */
export async function runSupervisor(options: SupervisorOptions): Promise<number> {
  const complain = (message: string): void => void process.stderr.write(`xksd: ${message}\n`);
  const loaded = loadConfig(options.configPath);
  if (!loaded.ok) {
    complain(loaded.error.message);
    return exitCodes.needsPerson;
  }
  const { log } = loaded.value;
  const config: Config = {
    ...loaded.value,
    log: { ...log, tracePkcs11: log.tracePkcs11 || options.tracePkcs11 },
  };
  const { tlsCertificate, tlsPrivateKey, mtls } = config.xks;
  const nowMs = systemClock.wallMs();
  // The serving processes read them again; this is for the message and against starting in vain.
  const tlsFiles = loadTlsFiles({ certificate: tlsCertificate, privateKey: tlsPrivateKey, mtls, nowMs });
  if (!tlsFiles.ok) {
    complain(tlsFiles.error);
    return exitCodes.needsPerson;
  }
  const obstacle = await options.obstacle(config);
  if (obstacle !== null) {
    complain(obstacle);
    return exitCodes.needsPerson;
  }
  const native = loadNativeBinding();
  const coreDumpErrno = native.forbidCoreDumps();
  const bound = bindListeners(native, config);
  if (!bound.ok) {
    complain(bound.error);
    return exitCodes.failed;
  }
  const listeners = bound.value;

  const logger = createLogger({ level: config.log.level, role: 'supervisor', slot: 0 });
  process.on('exit', () => logger.flush());
  warnOfCoreDumps(logger, coreDumpErrno);
  logger.info('starting', {
    version: softwareVersion(),
    node: config.node.name,
    config: resolve(options.configPath),
    servingProcesses: config.serving.processes,
    xks: listeners.xks.address,
    health: listeners.health.address,
    metrics: listeners.metrics.address,
  });

  const notifier = createServiceNotifier(native);
  const supervision = new Supervision({
    servingProcesses: config.serving.processes,
    drainMs: config.serving.drainSeconds * 1_000,
    random: Math.random,
  });
  const startPriority = new StartPriority((reason) =>
    logger.warn('children start at the same priority as those that serve', { reason }),
  );
  const children = new Map<number, ChildHandle>();
  const nonce = randomUUID();
  const spawn = (slot: number, role: ChildRole | 'standby', owner: ChildOwner): ChildHandle =>
    spawnChild({
      command: options.childCommand(role),
      environment: { XKSD_SLOT: String(slot), XKSD_SUPERVISOR_NONCE: nonce },
      descriptors:
        role === 'serving'
          ? [
              ['XKSD_XKS_FD', listeners.xks.fd],
              ['XKSD_HEALTH_FD', listeners.health.fd],
            ]
          : [['XKSD_METRICS_FD', listeners.metrics.fd]],
      ...owner,
    });
  const standby = new Standby({
    spawn: (owner) => spawn(replicaSlot, 'standby', owner),
    priority: startPriority,
    nowMs: () => systemClock.monotonicMs(),
    onLoaded: (pid) => logger.info('a standby of the replica waits', { standbyPid: pid }),
    onDied: (code, signal) => logger.warn('the standby of the replica died', { code, signal }),
  });
  const start = (slot: number, role: ChildRole): void => {
    const owner: ChildOwner = {
      onMessage: (message) => handle({ kind: 'message', slot, message }),
      onExit: (code, signal) => {
        children.delete(slot);
        handle({ kind: 'exited', slot, code, signal });
      },
    };
    const child = (role === 'replica' ? standby.take(owner) : null) ?? spawn(slot, role, owner);
    // Only serving processes log in.
    child.send({ kind: 'config', config: role === 'replica' ? withoutPins(config) : config });
    children.set(slot, child);
    if (child.pid !== null) handle({ kind: 'spawned', slot, pid: child.pid });
  };

  let finish: (code: number) => void = () => {};
  const finished = new Promise<number>((resolvePromise) => {
    finish = resolvePromise;
  });
  const perform = (action: Action): void => {
    switch (action.kind) {
      case 'spawn':
        start(action.slot, action.role);
        return;
      case 'kill':
        children.get(action.slot)?.kill();
        return;
      case 'priority': {
        const pid = children.get(action.slot)?.pid ?? null;
        if (pid !== null && action.level === 'start') startPriority.lower(pid, startNiceness);
        else if (pid !== null) startPriority.restore(pid);
        return;
      }
      case 'standby':
        if (action.wanted) standby.prepare();
        else standby.end();
        return;
      case 'send':
        children.get(action.slot)?.send(action.message);
        return;
      case 'notify':
        notifier[action.state](action.status);
        return;
      case 'status':
        notifier.status(action.status);
        return;
      case 'close-listeners':
        for (const { fd } of Object.values(listeners)) native.closeFd(fd);
        return;
      case 'log':
        logger[action.level](action.message, action.fields);
        return;
      case 'finish':
        if (action.message !== null) complain(action.message);
        for (const child of children.values()) child.kill();
        standby.end();
        finish(action.code);
    }
  };
  const events: Event[] = [];
  let handling = false;
  const handle = (event: Event): void => {
    // What is done may be an event in turn; what was decided before is done first.
    events.push(event);
    if (handling) return;
    handling = true;
    for (let next = events.shift(); next !== undefined; next = events.shift()) {
      for (const action of supervision.handle(next, systemClock.monotonicMs())) perform(action);
    }
    handling = false;
  };

  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => handle({ kind: 'stop' }));
  process.on('SIGHUP', () =>
    logger.warn('SIGHUP does nothing: restart xksd to read its configuration again'),
  );
  const timers = [setInterval(() => handle({ kind: 'tick' }), tickIntervalMs)];
  if (notifier.watchdogIntervalMs !== null) {
    const feed = (): void => {
      if (supervision.isSound(systemClock.monotonicMs())) notifier.watchdog();
    };
    timers.push(setInterval(feed, notifier.watchdogIntervalMs));
  }
  handle({ kind: 'start' });
  const code = await finished;
  for (const timer of timers) clearInterval(timer);
  logger.info('stopped', { code });
  return code;
}
