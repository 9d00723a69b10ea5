/**
 * The picture of a person, fetched once from the provider and kept as an attachment of ours: nobody's browser asks the
 * vendor for it, and it stays when the vendor's link ends.
 *
 * Refuses everything that is not a small picture at an address the provider may name (provider.ts `mayFetch`): an address
 * that a person can write must not make the server ask hosts of its own network.
 */
import type { Log } from "../log.ts";
import type { People } from "../people.ts";
import type { Store } from "../store.ts";
import { sniff } from "../store/sniff.ts";
import { readAtMost } from "./ask.ts";
import type { Provider } from "./provider.ts";

const MOST_BYTES = 1024 * 1024;
const TIMEOUT_MS = 10_000;
const KINDS = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);

export const createPictures = ({ people, store, log }: { people: People; store: Store; log: Log }) => {
  const fetching = new Set<string>();

  const keep = async (user: string, address: string): Promise<void> => {
    const response = await fetch(address, { redirect: "manual", signal: AbortSignal.timeout(TIMEOUT_MS) });
    const bytes = response.status === 200 ? await readAtMost(response, MOST_BYTES) : undefined;
    if (!bytes || !KINDS.has(sniff(bytes, "").mime)) throw new Error(`no picture (${response.status})`);
    const { id } = await store.attachments.add({ user, name: "avatar", mime: "", bytes, turn: null });
    await people.update(user, { avatar: { id, source: address } });
  };

  return {
    /** Fetches in the background when the address is new; what goes wrong is logged and tried at the next sign-in. */
    refresh: (user: string, address: string | undefined, provider: Provider): void => {
      if (address === undefined || address === people.avatarSource(user) || fetching.has(user)) return;
      if (!URL.canParse(address) || address.length > 2_000 || !provider.mayFetch(new URL(address))) return;
      fetching.add(user);
      keep(user, address)
        .catch((error: unknown) => log("info", "picture_refused", { user, error: String(error) }))
        .finally(() => fetching.delete(user));
    },
  };
};
