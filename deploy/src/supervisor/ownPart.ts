/** What a supervisor may run itself in place of a child: the five services of a compact stack, in which supervisor and services are one process. */
import type { ProcessPlan } from '../stack/plan.ts';
import type { ProcessName } from '../stack/services.ts';
import type { ProbeAnswer } from './probe.ts';
import { startTimeOf } from './process.ts';

export interface OwnPart {
  /** The process of the plan that it is. */
  readonly name: ProcessName;
  /**
   * Starts what it is. After a failure it may be called again.
   *
   * @param env - the plan's, for this instance. @throws whatever the start fails with; nothing of it runs then.
   */
  start(env: Readonly<Record<string, string>>): Promise<void>;
  /** How it is; `answered: false` where it is not there yet, or says nothing within `timeoutMs`. */
  ask(timeoutMs: number): Promise<ProbeAnswer>;
  stop(): Promise<void>;
  /** As `stop`, when nothing is under way in it any more. */
  drain(): Promise<void>;
}

/** The plan of this very process. No other process is as it is to be: the one that an earlier supervisor left serves until this one does. */
export function ofThisProcess(plan: ProcessPlan): ProcessPlan {
  return { ...plan, digest: `${plan.digest}-${process.pid}-${startTimeOf(process.pid)}` };
}
