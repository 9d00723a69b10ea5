// PM2: put this file beside the program and config.json, then `pm2 start ecosystem.config.cjs`.
// One process, never `cluster`: sessions and bots live in its memory.
module.exports = {
  apps: [
    {
      name: "nexus",
      script: "./nexus",
      args: "serve",
      cwd: __dirname,
      interpreter: "none",
      exec_mode: "fork",
      instances: 1,
      autorestart: true,
      exp_backoff_restart_delay: 100,
      // Open answers get 25 s to finish after the signal; PM2 kills 1.6 s after its SIGINT if it is not told.
      kill_timeout: 30000,
      merge_logs: true,
    },
  ],
};
