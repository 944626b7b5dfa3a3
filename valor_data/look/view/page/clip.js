// One clip: its words, pictures, sound and story. Everything is put in as text, never as markup.

const panel = document.getElementById("clip");
let wanted = null;

export function node(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function closeClip() {
  wanted = null;
  panel.hidden = true;
  panel.replaceChildren();
}

export function stopOrPlay() {
  const player = panel.querySelector("audio, video");
  if (!player) return;
  if (player.paused) player.play().catch(() => {}); // paused again before it began
  else player.pause();
}

export async function showClip(key, tools) {
  wanted = key;
  panel.hidden = false;
  panel.setAttribute("aria-busy", "true");
  if (!panel.firstChild) panel.replaceChildren(node("p", { class: "under" }, "Loading …"));
  let clip;
  try {
    clip = await tools.ask(`/api/clip/${encodeURIComponent(key)}`);
  } catch (error) {
    if (wanted === key) draw([top(tools), title(key), node("p", { class: "note" }, error.message)]);
    return;
  }
  if (wanted !== key) return;
  const pictures = node("div", { id: "pictures" });
  draw([
    top(tools), title(key), under(clip), ...refusal(clip), ...captions(clip), ...faults(clip), pictures,
    ...labels(clip, tools), ...questions(clip), ...facts(clip), ...story(clip),
  ]);
  if (clip.source !== "media") pictures.append(...seenAndHeard(clip));
  else await lookInside(clip, pictures, tools);
}

// A clip that is in no shard: its media file is opened, if one stays with it for a moment.
async function lookInside(clip, pictures, tools) {
  pictures.append(node("p", { class: "note", role: "status" }, "Looking into the media file …"));
  await new Promise((resolve) => { setTimeout(resolve, 250); });
  if (wanted !== clip.key) return;
  let inside;
  try {
    inside = await tools.ask(`/api/inside/${encodeURIComponent(clip.key)}`);
  } catch (error) {
    inside = { frames: [], moments: [], mel: false, sound: "", media_fault: error.message };
  }
  if (wanted !== clip.key) return;
  const seen = { ...clip, ...inside };
  pictures.replaceChildren(...faults({ media_fault: seen.media_fault }), ...seenAndHeard(seen));
}

function draw(parts) {
  panel.replaceChildren(...parts.filter(Boolean));
  panel.removeAttribute("aria-busy");
  panel.scrollTop = 0;
  panel.querySelector("h2").focus({ preventScroll: true });
  if (matchMedia("(max-width: 760px)").matches) scrollTo({ top: 0 });
}

function top({ close, step }) {
  const button = (words, label, action) => {
    const made = node("button", { type: "button", "aria-label": label }, words);
    made.addEventListener("click", action);
    return made;
  };
  return node("div", { class: "top" },
    node("div", { class: "steps" }, button("←", "Clip before (k)", () => step(-1)), button("→", "Next clip (j)", () => step(1))),
    button("Close", "Close (Escape)", close));
}

function title(key) { return node("h2", { id: "clip-title", tabindex: "-1" }, key); }

function under(clip) {
  const words = [clip.split];
  if (clip.span.end !== null && clip.span.start !== null) {
    words.push(`${clip.span.start.toFixed(3)} to ${clip.span.end.toFixed(3)} s of ${clip.span.video_id}`);
  }
  if (clip.shard) words.push(`in ${clip.shard}`);
  const copy = node("button", { type: "button" }, "Copy key");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(clip.key);
    copy.textContent = "Copied";
  });
  return node("p", { class: "under" }, `${words.join(" · ")} `, copy);
}

function refusal(clip) {
  if (clip.standing === "kept") return [];
  const by = { dropped: `dropped by ${clip.stage}`, waiting: `waiting at ${clip.stage}` };
  const standing = (clip.stage !== "listed" && by[clip.standing]) || clip.standing;
  const where = clip.reason ? `${standing}: ${clip.reason}` : standing;
  return [node("div", { class: `why ${clip.standing}` }, node("span", { class: "standing" }, where),
    clip.meaning ? node("p", {}, sentence(clip.meaning)) : null,
    clip.action ? node("p", { class: "under" }, `What to do: ${clip.action}.`) : null)];
}

function sentence(text) { return `${text[0].toUpperCase()}${text.slice(1)}.`; }

function captions(clip) {
  const told = clip.annotation
    ? clip.annotation.captions.filter((caption) => caption.text)
    : clip.captions.map((text) => ({ text, role: "" }));
  return told.map(({ text, role }) => node("blockquote", { dir: "auto" }, text, role ? node("footer", {}, role) : null));
}

function faults(clip) {
  const words = [clip.fault, clip.media_fault && `The media: ${clip.media_fault}`].filter(Boolean);
  return words.map((text) => node("p", { class: "note" }, text));
}

function seenAndHeard(clip) {
  const parts = [], length = clip.duration || 0, path = (name) => `/media/${clip.key}/${name}`;
  const film = clip.sound === "mp4";
  const player = clip.sound ? node(film ? "video" : "audio", {
    controls: "", preload: clip.sound === "media" ? "none" : "metadata", src: path("sound"),
  }) : null;
  const seek = (second) => { if (player) player.currentTime = second; };
  const frames = clip.frames.map((name, number) => {
    const moment = clip.moments[number] ?? 0;
    const words = `${moment.toFixed(2)} s`;
    const button = node("button", { type: "button", title: player ? "Hear the sound from here" : "" },
      node("img", { src: path(name), alt: `Frame ${number + 1} of ${clip.frames.length}, at ${words}` }), words);
    button.addEventListener("click", () => seek(moment));
    return node("li", {}, button);
  });
  if (frames.length) {
    const heading = clip.source === "media" ? "Frames, from the media file" : "Frames";
    parts.push(node("h3", {}, heading), node("ol", { class: "strip", "aria-label": "Frames" }, ...frames));
  }
  const head = node("span", { class: "head", hidden: "" });
  if (clip.mel) {
    const picture = node("div", { class: "mel" },
      node("img", { src: path("mel.png"), alt: "Log-mel spectrogram: time to the right, low sounds at the bottom, loud is light" }), head);
    picture.addEventListener("click", (event) => {
      const box = picture.getBoundingClientRect();
      seek(((event.clientX - box.left) / box.width) * length);
    });
    const axis = [0, 1, 2, 3, 4].map((quarter) => node("span", {}, `${((quarter * length) / 4).toFixed(1)}${quarter ? "" : " s"}`));
    parts.push(node("h3", {}, "Mel"), picture, node("div", { class: "axis", "aria-hidden": "true" }, ...axis));
  }
  if (player) {
    player.setAttribute("aria-label", film ? "The clip" : "The clip's sound");
    const follow = () => {
      head.hidden = false;
      head.style.left = `${length ? Math.min(100, (100 * player.currentTime) / length) : 0}%`;
      let nearest = 0;
      clip.moments.forEach((moment, number) => {
        if (Math.abs(moment - player.currentTime) < Math.abs(clip.moments[nearest] - player.currentTime)) nearest = number;
      });
      frames.forEach((frame, number) => frame.classList.toggle("now", number === nearest));
      if (!player.paused) requestAnimationFrame(follow);
    };
    player.addEventListener("play", follow);
    player.addEventListener("seeked", follow);
    player.addEventListener("error", () => player.replaceWith(node("p", { class: "note" }, "This browser cannot play the sound.")));
    parts.push(player);
  } else {
    parts.push(node("p", { class: "note" }, silence(clip)));
  }
  return parts;
}

function silence(clip) {
  if (clip.facts && clip.facts.has_audio === false) return "There is nothing to hear: the media have no sound track.";
  if (clip.media && clip.media.is_outside) {
    return `The media lie outside of the work folder (${clip.media.path}); valor-data view --outside-media may open them.`;
  }
  if (clip.shard) return "There is nothing to hear: the shards hold the mel alone (shard --include audio adds the sound), and no media are at hand.";
  if (clip.media_fault) return "There is nothing to see or hear.";
  return "There is nothing to see or hear: no media are at hand.";
}

function labels(clip, tools) {
  if (!clip.labels.length) return [];
  return [node("h3", {}, "Labels"), node("ul", { class: "chips" },
    ...clip.labels.map((label) => node("li", {}, node("a", { href: tools.labelled(label) }, label))))];
}

function questions(clip) {
  const asked = ((clip.annotation && clip.annotation.questions) || []).filter((one) => one.question);
  if (!asked.length) return [];
  return [node("h3", {}, "Questions"), node("dl", {},
    ...asked.flatMap((one) => [node("dt", {}, one.question), node("dd", {}, one.answers.join(" / "))]))];
}

function table(rows) {
  return node("dl", {}, ...rows.filter(([, text]) => text).flatMap(([name, text]) => [node("dt", {}, name), node("dd", {}, text)]));
}

function facts(clip) {
  const f = clip.facts;
  const rows = [];
  if (f) {
    const percent = (share) => `${Math.round(100 * share)} %`;
    rows.push(
      ["picture", f.has_video ? `${f.width_px} × ${f.height_px}, ${f.video_codec}, ${Math.round(f.fps * 100) / 100} a second${f.still ? ", a still" : ""}` : "none"],
      ["picture there", f.has_video ? percent(f.video_coverage) : ""],
      ["sound", f.has_audio ? `${f.audio_codec}, ${f.sample_rate_hz.toLocaleString("en")} Hz, ${f.num_channels === 1 ? "mono" : f.num_channels === 2 ? "stereo" : `${f.num_channels} channels`}` : "none"],
      ["sound there", f.has_audio ? percent(f.audio_coverage) : ""],
      ["loudness", f.has_audio ? `RMS ${f.rms_dbfs.toFixed(1)} dBFS, peak ${f.peak_dbfs.toFixed(1)} dBFS` : ""],
      ["silence", f.has_audio ? percent(f.silence_share) : ""],
    );
  }
  const source = clip.annotation ? Object.entries(clip.annotation.source || {}).filter(([, text]) => text) : [];
  rows.push(["source", source.map(([name, text]) => `${name} ${text}`).join(", ")]);
  if (clip.media) rows.push(["media", `${clip.media.path}, ${clip.media.size_bytes.toLocaleString("en")} bytes`]);
  return rows.some(([, text]) => text) ? [node("h3", {}, "Facts"), table(rows)] : [];
}

function story(clip) {
  const rows = Object.entries(clip.stages).map(([stage, told]) => {
    const words = [told.status, told.reason, told.detail && `(${told.detail})`].filter(Boolean).join(" ");
    return [stage, words];
  });
  if (clip.next) rows.push(["next", clip.next]);
  return rows.length ? [node("h3", {}, "Story"), table(rows)] : [];
}
