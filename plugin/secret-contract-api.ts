/** The host looks for this file by name, to resolve secret references before the channel starts. */
import { secrets } from "./src/setup.ts";

export const { secretTargetRegistryEntries, collectRuntimeConfigAssignments } = secrets;
