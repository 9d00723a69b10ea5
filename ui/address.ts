/** Which conversation the address names: `/c/<id>` on the gateway, `#/c/<id>` where another server hosts the page. */
export type Address = {
  /** undefined: a new conversation. */
  of: (id: string | undefined) => string;
  current: () => string | undefined;
};

export const createAddress = (standalone: boolean): Address => ({
  of: (id) => (standalone ? `#/${id ? `c/${id}` : ""}` : id ? `/c/${id}` : "/"),
  current: () => /^#?\/c\/([\w-]+)$/.exec(standalone ? location.hash : location.pathname)?.[1],
});
