/** Reading `/api/events` in tests: by type, up to a mark, from a place. */
import type { UserEvent } from "../../lib/protocol.ts";
import type { Person } from "./person.ts";
import type { SseReader } from "./sse.ts";

export type Reader = SseReader<UserEvent>;
export type EventOf<T extends UserEvent["type"]> = Extract<UserEvent, { type: T }>;

export const types = (reader: Reader): string[] => reader.events.map(({ data }) => data.type);

export const of = <T extends UserEvent["type"]>(items: { data: UserEvent }[], type: T): EventOf<T>[] =>
  items.map(({ data }) => data).filter((data): data is EventOf<T> => data.type === type);

/**
 * Makes something happen last, and waits until `reader` was told: everything before it has been told then too. Not before
 * `hello`: what happens until then comes with the conversations of the catching up, ahead of the messages.
 */
export const settle = async (reader: Reader, who: Person): Promise<string> => {
  await reader.find(({ type }) => type === "hello");
  const title = `mark ${crypto.randomUUID()}`;
  await who.conversation({ title });
  return (await reader.find((event) => event.type === "conversation" && event.conversation.title === title)).id;
};

/** The place of now, to come back to. */
export const placeOf = async (who: Person): Promise<string> => {
  const reader = await who.events();
  const hello = await reader.find(({ type }) => type === "hello");
  await reader.leave();
  return hello.id;
};
