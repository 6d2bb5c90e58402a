/** LLBBridge: what a client calls while it steers a build that it has asked for. */
import {
  type EvaluateRequest,
  type PingRequest,
  PongResponse,
  type ReturnRequest,
  type SolveRequest,
  SolveResponse,
  type WarnRequest,
} from '@flotilla/contracts/moby/buildkit/v1/frontend/gateway';
import type { Definition } from '@flotilla/contracts/pb/ops';
import { NotFound, NotImplemented } from '@flotilla/errors';
import type { Image } from '../image.ts';
import type { ImageStore } from '../imageStore.ts';
import { importedNames } from './cacheImports.ts';
import { StatusError, toStatus, unsupportedRequest } from './failure.ts';
import type { Frontend } from './frontend.ts';
import type { FrontendOptions } from './frontendOptions.ts';
import type { Job, Jobs } from './job.ts';
import { SourceText } from './sourceText.ts';
import { resultIdOf, standInFor } from './standIn.ts';
import { isQuestion } from './subrequests.ts';
import type { WorkerList } from './workers.ts';

/** What clients may ask of us. `return` makes them steer builds in the first place; what is not served is not named. */
const frontendCapabilities = [
  'solve.base',
  'return',
  'returnmap',
  'proto.refarray',
  'frontend.inputs',
  'frontend.caps',
  'reference.output',
  'gateway.evaluate',
  'gateway.solve.evaluate',
  'gateway.warnings',
  'gateway.solve.metadata',
  'importcaches',
];
const graphCapabilities = ['constraints', 'platform', 'meta.description'];

export interface BridgeParts {
  readonly jobs: Jobs;
  readonly frontend: Frontend;
  readonly store: ImageStore;
  readonly workers: WorkerList;
}

export class Bridge {
  private readonly parts: BridgeParts;

  constructor(parts: BridgeParts) {
    this.parts = parts;
  }

  async ping(_job: Job, _request: PingRequest): Promise<PongResponse> {
    return PongResponse.fromPartial({
      frontendCaps: frontendCapabilities.map((id) => ({ id, enabled: true })),
      llbCaps: graphCapabilities.map((id) => ({ id, enabled: true })),
      workers: await this.parts.workers(),
    });
  }

  async solve(job: Job, request: SolveRequest): Promise<SolveResponse> {
    if (request.frontend === '') return this.solveDefinition(request.definition);
    const { frontendOpt: options } = request;
    const question = options.requestid ?? '';
    if (question !== '' && !isQuestion(question)) throw new StatusError(unsupportedRequest(question));
    checkFrontend(request.frontend, options);
    const cacheFrom = importedNames(options, request.cacheImports);
    const { frontend } = this.parts;
    const wanted = { options, inputs: request.frontendInputs, cacheFrom };
    try {
      if (isQuestion(question)) {
        const metadata = await frontend.answer(job, question, wanted);
        return SolveResponse.fromPartial({ result: { ref: { id: '' }, metadata } });
      }
      const { id, made } = await frontend.solve(job, wanted);
      return response(id, made.image);
    } catch (error) {
      job.signal.throwIfAborted();
      throw new StatusError(toStatus(error, job.source));
    }
  }

  /** Only one that we have given out ourselves. */
  private solveDefinition(definition: Definition | undefined): SolveResponse {
    // Nothing at all: what a client returns when it only wants to know what we can do.
    if (definition === undefined || definition.def.length === 0) return SolveResponse.fromPartial({ result: { ref: { id: '' } } });
    const id = resultIdOf(definition);
    if (id === undefined) throw new NotImplemented('this engine builds from Dockerfiles: it does not solve definitions');
    const digest = this.parts.jobs.imageOf(id);
    const image = digest === undefined ? undefined : this.parts.store.get(digest);
    if (image === undefined) throw new NotFound(`result ${id} is gone`);
    return response(id, image);
  }

  /** Results are whole when they are given out. */
  async evaluate(job: Job, { ref }: EvaluateRequest): Promise<object> {
    if (ref !== '' && !job.results.has(ref) && this.parts.jobs.imageOf(ref) === undefined) throw new NotFound(`no such ref: ${ref}`);
    return {};
  }

  async warn(job: Job, { short, level }: WarnRequest): Promise<object> {
    const vertex = job.progress.vertex('[internal] warnings of the client').start();
    if (level >= 0n) vertex.warn(short.toString(), job.source ?? new SourceText('Dockerfile', ''));
    vertex.complete();
    return {};
  }

  async return(job: Job, request: ReturnRequest): Promise<object> {
    job.return(request);
    return {};
  }
}

function response(id: string, image: Image): SolveResponse {
  return SolveResponse.fromPartial({
    result: {
      ref: { id, def: standInFor(id) },
      metadata: { 'containerimage.config': Buffer.from(image.record.config) },
    },
  });
}

function checkFrontend(frontend: string, options: FrontendOptions): void {
  if (frontend === 'dockerfile.v0') return;
  const source = options.source ?? '';
  if (frontend === 'gateway.v0' && /^(docker\.io\/)?docker\/dockerfile(-upstream)?(:|@|$)/.test(source)) return;
  throw new NotImplemented(`the frontend ${frontend === 'gateway.v0' ? source : frontend} is not available in this engine`);
}
