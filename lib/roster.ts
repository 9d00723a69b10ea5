/**
 * Objects by row id, where they come and go by the thousand a second: open turns, and what waits to be told or written.
 *
 * A Map would do, but the runtime's Map rewrites its table every few deletions and the table before keeps what was in it
 * from being collected young: of what a chat allocated two thirds survived, and collecting it took a tenth of the CPU of a
 * chat (docs/benchmarks.md). Here the Map holds numbers only, and the objects stand in an array whose places are used again.
 * What must stay true: a place is empty as soon as its object is gone.
 */
export type Roster<T> = {
  readonly size: number;
  get(id: number): T | undefined;
  has(id: number): boolean;
  set(id: number, item: T): void;
  delete(id: number): boolean;
  clear(): void;
  /** All of now, in the order they came. */
  values(): T[];
};

export const createRoster = <T>(): Roster<T> => {
  const places = new Map<number, number>();
  const items: (T | undefined)[] = [];
  const free: number[] = [];

  return {
    get size() {
      return places.size;
    },
    get: (id) => {
      const place = places.get(id);
      return place === undefined ? undefined : items[place];
    },
    has: (id) => places.has(id),
    set: (id, item) => {
      let place = places.get(id);
      if (place === undefined) {
        place = free.pop() ?? items.length;
        places.set(id, place);
      }
      items[place] = item;
    },
    delete: (id) => {
      const place = places.get(id);
      if (place === undefined) return false;
      places.delete(id);
      items[place] = undefined;
      free.push(place);
      return true;
    },
    clear: () => {
      places.clear();
      items.length = 0;
      free.length = 0;
    },
    values: () => {
      const all: T[] = [];
      for (const place of places.values()) all.push(items[place]!);
      return all;
    },
  };
};
