/**
 * The tables, as a list of migrations: entry n brings a file from user_version n to n + 1. A released entry never changes;
 * tests/golden holds a file of each version.
 *
 * Integer ids come from ids.ts. Moments are milliseconds. Every change a person can see raises `rev` of its conversation
 * and, for messages, of the message, so a reader that knows a rev can be told what it missed.
 */
export const MIGRATIONS: readonly string[] = [
  `
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE conversations (
  id INTEGER PRIMARY KEY,
  user TEXT NOT NULL,
  bot TEXT,                               -- that answered last
  is_default INTEGER NOT NULL DEFAULT 0,  -- the one used when a call names none
  title TEXT NOT NULL,
  titled INTEGER NOT NULL DEFAULT 0,      -- 1: named by a person or a bot, so the first message does not name it
  pinned INTEGER NOT NULL DEFAULT 0,
  unread INTEGER NOT NULL DEFAULT 0,
  read_upto INTEGER NOT NULL DEFAULT 0,   -- message id
  leaf INTEGER,                           -- newest message: parent of the next
  last_role TEXT, last_text TEXT, last_at INTEGER,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,            -- last message; orders the list
  rev INTEGER NOT NULL,
  deleted_at INTEGER                      -- kept as a tombstone for readers that were away
) STRICT;
CREATE INDEX conversations_by_user ON conversations (user, updated_at);
CREATE UNIQUE INDEX conversations_default ON conversations (user, bot) WHERE is_default = 1;
CREATE INDEX conversations_by_rev ON conversations (rev);
-- Deleted and not yet emptied: looked for every few seconds.
CREATE INDEX conversations_full ON conversations (deleted_at)
  WHERE deleted_at IS NOT NULL AND (leaf IS NOT NULL OR title != '');

CREATE TABLE messages (
  id INTEGER PRIMARY KEY,                 -- of a bot's reply: the turn's id
  conversation INTEGER NOT NULL REFERENCES conversations (id),
  role TEXT NOT NULL,
  bot TEXT, bot_name TEXT,
  content TEXT NOT NULL,
  state TEXT NOT NULL,
  error_code TEXT, error_text TEXT,
  turn INTEGER,
  parent INTEGER,
  reply_to INTEGER,
  client_id TEXT,
  usage TEXT,
  files INTEGER NOT NULL DEFAULT 0,       -- rows in message_files, so most reads need no second query
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  rev INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_conversation ON messages (conversation, id);
-- What a reader missed, and what search has not read: without it each is a walk through a whole conversation.
CREATE INDEX messages_by_rev ON messages (conversation, rev);

CREATE TABLE turns (
  id INTEGER PRIMARY KEY,
  user TEXT NOT NULL,
  conversation INTEGER NOT NULL REFERENCES conversations (id),
  question INTEGER NOT NULL,              -- message id
  bot TEXT, bot_name TEXT,
  instance TEXT NOT NULL DEFAULT '',
  proto INTEGER NOT NULL DEFAULT 0,       -- of the connection it was given to; 0: none yet
  target TEXT,                            -- the bot the person named
  pool TEXT NOT NULL,
  source TEXT NOT NULL,
  text TEXT,                              -- what the bot sees, where that differs from the message
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  generation INTEGER NOT NULL DEFAULT 0,
  seq INTEGER NOT NULL DEFAULT 0,         -- last stored frame
  client_id TEXT, client_hash TEXT,
  created_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;
CREATE INDEX turns_open ON turns (id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX turns_client ON turns (user, client_id) WHERE client_id IS NOT NULL;

-- Text of open turns, appended in batches, pruned from the front once the turns before are folded into messages.
CREATE TABLE chunks (
  id INTEGER PRIMARY KEY,
  turn INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  text TEXT NOT NULL
) STRICT;

CREATE TABLE attachments (
  id INTEGER PRIMARY KEY,
  user TEXT NOT NULL,
  sha TEXT NOT NULL,
  name TEXT NOT NULL,
  mime TEXT NOT NULL,
  size INTEGER NOT NULL,
  width INTEGER, height INTEGER,
  turn INTEGER,                           -- uploaded by a bot for this turn
  created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX attachments_by_sha ON attachments (sha);
CREATE INDEX attachments_by_turn ON attachments (turn) WHERE turn IS NOT NULL;

CREATE TABLE message_files (
  message INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
  place INTEGER NOT NULL,
  attachment INTEGER NOT NULL REFERENCES attachments (id),
  PRIMARY KEY (message, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_files_by_attachment ON message_files (attachment);

CREATE TABLE sessions (
  hash TEXT PRIMARY KEY,                  -- SHA-256 of the token
  user TEXT NOT NULL,
  mark TEXT NOT NULL,                     -- of the password it was made with: a changed password ends it
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
  id INTEGER PRIMARY KEY,
  user TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  scope TEXT NOT NULL,
  bots TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  last_used_at INTEGER
) STRICT;

CREATE TABLE bot_sessions (
  bot TEXT NOT NULL,
  instance TEXT NOT NULL,
  hash TEXT NOT NULL,
  previous TEXT,                          -- stays valid until the new one was presented once
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (bot, instance)
) STRICT, WITHOUT ROWID;

CREATE TABLE proactive (
  bot TEXT NOT NULL,
  id TEXT NOT NULL,                       -- the bot's idempotency key
  user TEXT NOT NULL,
  conversation INTEGER NOT NULL,
  message INTEGER NOT NULL,
  seen_at INTEGER,
  receipt_at INTEGER,                     -- when the bot was told "seen"
  created_at INTEGER NOT NULL,
  PRIMARY KEY (bot, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX proactive_unseen ON proactive (conversation, message) WHERE seen_at IS NULL;
CREATE INDEX proactive_unsent ON proactive (bot) WHERE seen_at IS NOT NULL AND receipt_at IS NULL;

CREATE TABLE dead_letters (
  id INTEGER PRIMARY KEY,
  bot TEXT NOT NULL,
  reason TEXT NOT NULL,
  frame TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

-- rowid: a message's or a conversation's id (one id sequence for both). owner: one token per user, so a query reads only
-- that person's postings. The text is spaced for Chinese by search.ts; contentless, the messages hold the originals.
CREATE VIRTUAL TABLE search USING fts5 (owner, body, content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2');
`,
  `
-- People made by sign-in, under their identity key, or by an admin; of users of config.json only the picture.
CREATE TABLE people (
  username TEXT PRIMARY KEY,
  made_by TEXT NOT NULL,                  -- sign-in, page; config: of a user of the file, who exists while it says so
  display_name TEXT NOT NULL,
  password TEXT,
  role TEXT,
  avatar INTEGER,                         -- attachment id
  avatar_source TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX people_by_avatar ON people (avatar) WHERE avatar IS NOT NULL;

CREATE TABLE sign_ins (
  month TEXT NOT NULL,                    -- of China, as the vendors count
  provider TEXT NOT NULL,
  sign_ins INTEGER NOT NULL,
  refused INTEGER NOT NULL,
  calls INTEGER NOT NULL,                 -- requests to the provider
  PRIMARY KEY (month, provider)
) STRICT, WITHOUT ROWID;
`,
  `
-- Questions that came over /v1: by which messages a later request finds their conversation again (lib/openai/threads.ts).
CREATE TABLE threads (
  turn INTEGER PRIMARY KEY REFERENCES turns (id) ON DELETE CASCADE,
  whole TEXT NOT NULL,                    -- digest of the caller and every message up to the question
  tail TEXT,                              -- digest of the caller and the last exchange up to the question
  system TEXT NOT NULL,                   -- digest of the system prompt
  said TEXT                               -- digest of the answer as the caller got it, where that is not the stored text
) STRICT;
CREATE INDEX threads_whole ON threads (whole);
CREATE INDEX threads_tail ON threads (tail) WHERE tail IS NOT NULL;
`,
  `
-- What admins set on the page about people, those of config.json too.
CREATE TABLE person_settings (
  username TEXT PRIMARY KEY,
  disabled_at INTEGER,
  messages_per_day INTEGER,               -- 0: no limit; null: as config.json says
  messages_over INTEGER,                  -- what config.json said then; another value there counts
  turns_at_once INTEGER,
  password TEXT,                          -- argon2id, of users of config.json
  password_over TEXT,                     -- mark of the password it replaces; another one there counts
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The same about bots.
CREATE TABLE bot_settings (
  bot TEXT PRIMARY KEY,
  name TEXT,
  users TEXT,
  pools TEXT,
  max_concurrency INTEGER,
  token TEXT,                             -- SHA-256
  disabled INTEGER NOT NULL DEFAULT 0,
  over TEXT NOT NULL,                     -- digest of the entry in config.json then; another one there counts
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Days are those of the configured time zone. Counted in the commit that stores the message or ends the turn.
CREATE TABLE usage_sent (
  day TEXT NOT NULL,
  user TEXT NOT NULL,
  messages INTEGER NOT NULL,
  PRIMARY KEY (day, user)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_turns (
  day TEXT NOT NULL,
  user TEXT NOT NULL,
  bot TEXT NOT NULL,                      -- '' when none had it
  done INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  cancelled INTEGER NOT NULL,
  chars INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (day, user, bot)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  id INTEGER PRIMARY KEY,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  detail TEXT NOT NULL,
  address TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
`,
  `
-- Two index entries less per message, one less per conversation: a third of what storing a chat cost. Messages are listed by
-- revision; the newest revision stands in meta.
DROP INDEX messages_by_conversation;
DROP INDEX conversations_by_rev;
INSERT INTO meta (key, value) SELECT 'rev', coalesce(max(rev), 0) FROM conversations;
`,
  `
-- A turn is over when its reply is there, which carries the last frame's seq: its own row is not written again at
-- the end (a sixth of what storing a chat cost). Which turns are open is looked for from open_from on: every one before is over.
ALTER TABLE messages ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
INSERT INTO meta (key, value) SELECT 'open_from', coalesce(
  (SELECT min(id) FROM turns WHERE ended_at IS NULL), (SELECT max(id) + 1 FROM turns), 0);
DROP INDEX turns_open;
`,
  `
-- Of a turn that an API key for some bots asked: those bots, as JSON, so that no other one gets it after a restart.
ALTER TABLE turns ADD COLUMN only_bots TEXT;
`,
];
