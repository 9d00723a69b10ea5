/** The way to the admin page: by the settings, or by its address once it is known who is signed in. */
import type { Page } from "./page.ts";

export type AdminDoor = {
  open: (section: string | undefined) => Promise<void>;
  /** Somebody is signed in: goes where the address pointed, once. */
  asked: () => void;
};

/** `addressOf`: of the conversation that is open, to which the address returns. */
export const createAdminDoor = (page: Page, needs: { addressOf: () => string; opening: () => void }): AdminDoor => {
  const { api, state } = page;
  const address = api.standalone ? location.hash : location.pathname;
  const match = /^#?\/admin(?:\/(\w+))?$/.exec(address);
  let wanted = match ? (match[1] ?? "overview") : undefined;

  const open = async (section: string | undefined): Promise<void> => {
    needs.opening();
    try {
      const admin = await import("./admin/admin.ts");
      await admin.openAdmin(page, section, (at) =>
        history.replaceState(
          null,
          "",
          at === undefined ? needs.addressOf() : `${api.standalone ? "#" : ""}/admin/${at}`,
        ),
      );
    } catch {
      page.toast(page.t("networkError"));
    }
  };

  return {
    open,
    asked: () => {
      if (wanted === undefined || !state.user) return;
      if (state.user.role === "admin") void open(wanted);
      wanted = undefined;
    },
  };
};
