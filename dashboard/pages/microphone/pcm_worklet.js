/**
 * Runs on the browser's audio thread: posts 16-bit mono blocks of `blockSamples` with their peak
 * and mean square, −1 to 1. Several channels of a microphone are averaged.
 */

class PcmBlocks extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.blockSamples = processorOptions.blockSamples;
    this.#begin();
  }

  #begin() {
    this.block = new Int16Array(this.blockSamples);
    this.filled = 0;
    this.peak = 0;
    this.energy = 0;
  }

  process([channels]) {
    // Without a source there are no channels; time goes on all the same.
    const count = channels.length ? channels[0].length : 128;
    for (let index = 0; index < count; index += 1) {
      let value = 0;
      for (const channel of channels) value += channel[index];
      if (channels.length > 1) value /= channels.length;
      value = Math.max(-1, Math.min(1, value));
      this.peak = Math.max(this.peak, Math.abs(value));
      this.energy += value * value;
      this.block[this.filled] = Math.round(value * 32767);
      this.filled += 1;
      if (this.filled === this.blockSamples) this.#post();
    }
    return true;
  }

  #post() {
    const { block, peak, energy } = this;
    this.port.postMessage({ samples: block, peak, meanSquare: energy / block.length }, [block.buffer]);
    this.#begin();
  }
}

registerProcessor("pcm-blocks", PcmBlocks);
