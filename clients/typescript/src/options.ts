// What calls are made with.

import type { DpopKey } from './dpop.js'
import type { Duration } from './duration.js'
import type { Grant } from './grant.js'
import type { WaitOptions } from './revocation.js'

/** How a call is made. */
export interface CallOptions {
  /** Gives it up. */
  readonly signal?: AbortSignal | undefined
  /** How long it may take, tries and waits together; default: the client's. */
  readonly timeoutMs?: number | undefined
}

/** How a change is made. */
export interface ChangeOptions extends CallOptions {
  /** A UUID under which the change is made once, however often it is asked for; default: a new one. */
  readonly requestId?: string | undefined
}

/** What every new task says. */
export interface NewTask extends ChangeOptions {
  /** A principal, or the pattern of one agent class: `spiffe://prod.example/agents/finance/*`. */
  readonly agent: string
  /** What its credentials may at most allow. */
  readonly grant: Grant
  /** Why, for whoever looks at it; at most 1,024 bytes. */
  readonly purpose?: string | undefined
  /** Who answers for it; default: the agent class's owner. */
  readonly owner?: string | undefined
  readonly labels?: Readonly<Record<string, string>> | undefined
  /** When it ends by itself. */
  readonly deadline?: Date | undefined
  /** The same, counted from its begin. */
  readonly duration?: Duration | undefined
  /** How often its orchestrator says that it is still there; after three missed ones the tier's `on_silence` acts. */
  readonly heartbeatInterval?: Duration | undefined
  readonly step?: string | undefined
  /** For the agent; at most 4,096 bytes. */
  readonly checkpoint?: Uint8Array | undefined
  /** How many instances of the agent may hold credentials; default: 1. */
  readonly instances?: number | undefined
}

/** What a root task is begun with; exactly one of `deadline` and `duration`. */
export interface BeginOptions extends NewTask {
  /** A tier that the agent class may use. */
  readonly tier: string
}

/** What a child is begun with; never more than its parent has. */
export interface DelegateOptions extends NewTask {
  /** Default: the parent's. */
  readonly tier?: string | undefined
  /** The parent's epoch; default: as this object last saw it. */
  readonly expectedEpoch?: number | undefined
}

/** What changes; what is left out stays as it is. */
export interface AdvanceOptions extends ChangeOptions, WaitOptions {
  /** The epoch that is changed; default: as this object last saw it. */
  readonly expectedEpoch?: number | undefined
  readonly grant?: Grant | undefined
  readonly step?: string | undefined
  readonly checkpoint?: Uint8Array | undefined
  /** Hands the task to another agent. */
  readonly agent?: string | undefined
  /** Children live on; refused when grant or agent change. */
  readonly keepChildren?: boolean | undefined
}

/** How a task is ended or suspended. */
export interface EndOptions extends ChangeOptions, WaitOptions {
  /** Why, for whoever looks at it. */
  readonly reason?: string | undefined
}

/** What a certificate is asked for with. */
export interface CertificateOptions extends CallOptions {
  /** The one resource that it is for; a certificate may be without. */
  readonly audience?: string | undefined
  /** What it shall allow, within the task's grant; default: all that the grant says of the audience. */
  readonly grant?: Grant | undefined
  /** How long one lives at most; default: as the tier says. */
  readonly ttl?: Duration | undefined
  /** Only in this epoch of the task; default: in whichever it is, and it goes on in the next. */
  readonly expectedEpoch?: number | undefined
  /** File with the CA of the servers that `fetch` goes to, in PEM; default: the client's. */
  readonly ca?: string | undefined
  /** The only origins that `fetch` goes to; default: any, over `https`. */
  readonly origins?: readonly string[] | undefined
}

/** What a token is asked for with. */
export interface CredentialOptions extends CertificateOptions {
  /** The one resource that it is for. */
  readonly audience: string
  /** What it is bound to; default: the certificate that the client calls with, else a fresh key. */
  readonly proof?: Proof | undefined
}

/**
 * What a token is bound to. `certificate`: the one that the client calls with. `key`: a key that is made here and a
 * certificate for it that the broker signs beside the token. `dpop`: a key that is made here, or a `DpopKey` of yours, which
 * signs a proof for every request. `bearer`: nothing, where the tier allows that.
 */
export type Proof = 'certificate' | 'key' | 'dpop' | 'bearer' | DpopKey
