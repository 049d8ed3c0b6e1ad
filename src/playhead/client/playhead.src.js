/* The tracker: page and player events for a gateway. An event stays in localStorage until it is
   acknowledged, so closed tabs and dead networks lose none; what is sent twice counts once, by
   its event_id. This is the source of playhead.js: `PYTHONPATH=tests python -m tracker_build`. */
(w => {
const d = document, script = d.currentScript, players = [],
clock = Date.now,
iso = () => new Date().toISOString(),
store = n => { try { let s = w[n]; s.ph = 1; return s } catch { return {} } },
// 48 bits of milliseconds and 80 random ones, as Producer makes them.
unique = () => clock().toString(16).padStart(12, 0) + [...crypto.getRandomValues(
  new Uint8Array(10))].map(b => (b + 256).toString(16).slice(1)).join(''),
keys = () => Object.keys(S).filter(k => /^ph:/.test(k)).sort(),
listen = (target, does, more) => { for (let n in does) target.addEventListener(n, does[n], more) },
later = n => { clearTimeout(timer); timer = setTimeout(send, n) },
path = () => where || location.pathname,
named = e => e.target.closest?.('[data-ph],a,button'),

send = async last => {
  // Browsers hold beacons to 64 KB: this many characters are at most as many bytes.
  let size = 0, batch = keys().filter(k => (size += S[k].length) < 2e4),
    text = `[${batch.map(k => S[k])}]`,
    url = `${o.url}/v1/events?sent_at=${iso()}${o.key ? '&key=' + o.key : ''}`
  // Another tab may have sent what failed here.
  if (!batch[0]) return fails = 0
  if (last) return navigator.sendBeacon(url, text)
  if (busy) return
  busy = 1
  try {
    let r = await fetch(url, { method: 'POST', body: text, keepalive: true,
      signal: AbortSignal.timeout(3e4) })
    if (r.status != 202) throw r.status
    batch.map(k => delete S[k])
    fails = 0
    r = await r.json()
    if (r.rejected[0]) console.warn('playhead:', r)
  } catch (e) { fails++; console.warn('playhead:', e) }
  busy = 0
  later(fails && Math.random() * Math.min(6e4, 500 * 2 ** fails))
},

track = (type, fields) => {
  let key = unique(), text = JSON.stringify({ event_id: key, event_type: type, event_time: iso(),
    user_id: o.user, session_id: o.session, device_type: o.device, ...o.fields, ...fields })
  if (text.length > 1e4 || keys().length >= o.max) return console.error('playhead: full', text)
  key = 'ph:' + key
  // A disk that takes no more: go on in memory, with what waits.
  try { S[key] = text } catch { S = { ...S, [key]: text } }
  if (!busy && !fails) later(o.wait)
},

seen = () => depth = Math.max(depth, Math.min(100,
  100 * (w.scrollY + w.innerHeight) / d.documentElement.scrollHeight)),

left = () => o.scroll && depth > told && track('scroll', { page: path(),
  scroll_depth_percentage: told = depth, dwell_time_seconds: (clock() - since) / 1e3 }),

page = (name, fields) => {
  left()
  where = name; since = clock(); depth = told = 0
  seen()
  track('page_view', { page: path(), referrer: d.referrer.split('?')[0] || null, ...fields })
},

touch = (type, x, more) => x && track(type, { page: path(), movie_id: x.dataset.movie,
  element: x.dataset.ph || x.id || x.localName, ...more }),

player = (v, ids, every = 10) => {
  let number = 0, from = 0, jumped, begun, abort = new AbortController(),
  tell = (type, more) => track(type, { ...ids, position_seconds: v.currentTime,
    duration_seconds: v.duration, playback_rate: v.playbackRate, sequence: number++, ...more }),
  stop = () => { begun && tell('stop'); begun = 0 },
  beat = setInterval(() => begun && !v.paused && tell('play'), every * 1e3)
  listen(v, {
    play() { tell(begun ? 'resume' : 'play'); begun = 1 },
    pause() { begun && !v.ended && tell('pause') },
    // A timeupdate of the new place comes before seeked.
    seeking() { jumped ??= from },
    seeked() { begun && tell('seek', { from_position_seconds: jumped }); jumped = null },
    ended() { tell('complete'); begun = 0 },
    timeupdate() { v.seeking || (from = v.currentTime) }
  }, abort)
  players.push(stop)
  return () => { stop(); clearInterval(beat); abort.abort() }
},

init = options => {
  // Called again, it takes other options and listens no second time.
  o || listen(w, {
    pagehide() { players.map(f => f()); left(); send(1) },
    // A page that lives on hears the answer, so that nothing is sent twice.
    visibilitychange() { if (d.hidden) left(), send() },
    online() { fails = 0; later(0) },
    scroll: seen,
    click(e) { o.clicks && touch('click', named(e)) },
    mouseover(e) {
      let x = named(e), s = (clock() - since2) / 1e3
      if (!o.hover || x == over) return
      if (s >= .5) touch('hover', over, { dwell_time_seconds: s })
      over = x; since2 = clock()
    }
  }, true)
  o = { url: script && new URL(script.src).origin, wait: 1e3, max: 1e3,
    user: S.ph_user ||= unique(), session: T.ph_session ||= unique(),
    device: /Mobi/.test(navigator.userAgent) ? 'Mobile' : 'Desktop', ...options }
  if (o.pages) page()
  later(0)
}
let S = store('localStorage'), T = store('sessionStorage'), fails = 0,
  o, busy, timer, where, since, depth, told, over, since2
w.playhead = { init, track, page, player }
})(window)
