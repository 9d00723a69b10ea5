/**
 * The audit log: who signed in, and which admin did what to whom.
 *
 * What must stay true: an entry holds names and numbers, never a password, a token or what somebody wrote; whatever still
 * looks like a secret is masked before it is stored. An action that was done is answered only after its entry is stored.
 */
import { maskSecrets, type Log } from "./log.ts";
import type { Store } from "./store.ts";

/** Everything that is ever written down. The page has a sentence for each. */
export const ACTIONS = [
  "sign_in",
  "sign_in_failed",
  "sign_out",
  "password_changed",
  "key_created",
  "key_deleted",
  "person_added",
  "person_changed",
  "person_disabled",
  "person_enabled",
  "person_removed",
  "sessions_ended",
  "bot_added",
  "bot_changed",
  "bot_disabled",
  "bot_enabled",
  "bot_removed",
  "bot_token_made",
  "bot_disconnected",
  "turn_cancelled",
  "dead_letter_read",
  "dead_letter_removed",
  "exported",
] as const;
export type Action = (typeof ACTIONS)[number];

export type AuditEntry = {
  actor: string;
  action: Action;
  target?: string;
  /** Names and numbers only. */
  detail?: Record<string, string | number | boolean | null | string[]>;
  address: string;
};

/** Long enough for a list of names; more is cut. */
const DETAIL_CHARS = 2000;
const NAME_CHARS = 256;

export const createAudit = ({
  store,
  log,
  counted,
}: {
  store: Store;
  log: Log;
  counted: (action: Action) => void;
}) => ({
  /** Resolves once stored. Rejects `storage_failed`. */
  record: async ({ actor, action, target = "", detail, address }: AuditEntry): Promise<void> => {
    counted(action);
    await store.audit.add({
      actor: actor.slice(0, NAME_CHARS),
      action,
      target: target.slice(0, NAME_CHARS),
      detail: detail ? maskSecrets(JSON.stringify(detail)).slice(0, DETAIL_CHARS) : "",
      address,
    });
  },
  /** For what happens whether or not it can be written down. */
  note(entry: AuditEntry): void {
    this.record(entry).catch((error: unknown) =>
      log("error", "audit_not_stored", { action: entry.action, error: String(error) }),
    );
  },
});

export type Audit = ReturnType<typeof createAudit>;
