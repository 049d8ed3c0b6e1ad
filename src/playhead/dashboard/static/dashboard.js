// A socket that the server has closed may be one whose key was revoked: then the page goes to the
// login instead of showing numbers that stand still.

const seen = setInterval(() => {
  if (!window.socket) return;
  clearInterval(seen);
  window.socket.on("disconnect", async () => {
    try {
      const answer = await fetch("/let-in", { redirect: "manual" });
      if (answer.type === "opaqueredirect" || answer.status === 401) location.reload();
    } catch {
      // The server is gone; NiceGUI says so, and tries again.
    }
  });
}, 200);
