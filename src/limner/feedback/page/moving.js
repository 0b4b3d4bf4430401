// What moves: videos, and animated pictures (WebP, GIF, PNG) whose frames this browser decodes. All sides begin together.
"use strict";

const decodes = "ImageDecoder" in window;               // in all but Safari, over https or from this machine
const ANIMATED = ["image/webp", "image/gif", "image/png"];
const LEAST_MS = 20;                                    // a shorter pause is none to browsers, which then take 100
const USUAL_MS = 100;

// An animated picture on a canvas; null for a still one.
class Strip {
  static async of(blob) {
    if (!decodes || !ANIMATED.includes(blob.type)) return null;
    const decoder = new ImageDecoder({ type: blob.type, data: await blob.arrayBuffer() });
    await Promise.all([decoder.tracks.ready, decoder.completed]);
    const strip = new Strip(decoder);
    if (decoder.tracks.selectedTrack.frameCount < 2) { decoder.close(); return null; }
    for (let i = 0; i < decoder.tracks.selectedTrack.frameCount; i++) {
      const { image } = await decoder.decode({ frameIndex: i });
      const ms = image.duration / 1000;
      strip.lasts.push(ms < LEAST_MS ? USUAL_MS : ms);
      image.close();
    }
    return strip;
  }

  constructor(decoder) {
    this.decoder = decoder;
    this.lasts = [];
    this.canvas = document.createElement("canvas");
    this.at = 0;                                        // the frame that is shown
    this.paused = true;
    this.clock = 0;                                     // ms from the beginning, while it plays
    this.drawing = Promise.resolve();
  }

  draw(place) {
    this.at = place;
    this.drawing = this.drawing.then(async () => {
      if (place !== this.at) return;                    // a later one was wanted meanwhile
      const { image } = await this.decoder.decode({ frameIndex: place });
      if (this.canvas.width !== image.displayWidth) this.canvas.width = image.displayWidth;
      if (this.canvas.height !== image.displayHeight) this.canvas.height = image.displayHeight;
      const brush = this.canvas.getContext("2d");
      brush.clearRect(0, 0, this.canvas.width, this.canvas.height);
      brush.drawImage(image, 0, 0);
      image.close();
    });
    return this.drawing;
  }

  get currentTime() { return this.lasts.slice(0, this.at).reduce((sum, ms) => sum + ms, 0) / 1000; }

  async restart() { await this.draw(0); }

  play() {
    this.paused = false;
    this.clock = 0;
    let before = null;
    const tick = (now) => {
      if (this.paused || !this.canvas.isConnected) return;
      this.clock += before === null ? 0 : now - before;
      before = now;
      let left = this.clock % this.lasts.reduce((sum, ms) => sum + ms, 0);
      const place = this.lasts.findIndex((ms) => (left -= ms) < 0);
      if (place >= 0 && place !== this.at) this.draw(place);
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  pause() { this.paused = true; }

  step(by) { this.draw(Math.min(this.lasts.length - 1, Math.max(0, this.at + by))); }
}

// A video. How long a frame lasts is told with it, or seen while it plays.
class Film {
  constructor(element, fps) {
    this.element = element;
    this.fps = fps;
    this.seen = Infinity;
    if (!fps && "requestVideoFrameCallback" in element) element.requestVideoFrameCallback(this.watch(null));
  }

  watch(before) {
    return (_, frame) => {
      if (before && frame.presentedFrames === before.presentedFrames + 1 && frame.mediaTime > before.mediaTime)
        this.seen = Math.min(this.seen, frame.mediaTime - before.mediaTime);
      this.element.requestVideoFrameCallback(this.watch(frame));
    };
  }

  get paused() { return this.element.paused; }
  get currentTime() { return this.element.currentTime; }
  async restart() { this.element.currentTime = 0; }
  play() { this.element.play().catch(() => {}); }
  pause() { this.element.pause(); }

  step(by) {
    const lasts = this.fps ? 1 / this.fps : Number.isFinite(this.seen) ? this.seen : 1 / 8;
    this.element.currentTime = Math.min(this.element.duration, Math.max(0, this.element.currentTime + by * lasts));
  }
}

async function begin(clips) {
  await Promise.all(clips.map((clip) => clip.restart()));
  for (const clip of clips) clip.play();
}

function play() {
  const { clips } = state || {};
  if (!clips) return;
  if (clips.some((clip) => clip.paused)) begin(clips);
  else for (const clip of clips) clip.pause();
}

function step(by) {
  for (const clip of (state || { clips: [] }).clips) {
    clip.pause();
    clip.step(by);
  }
}
