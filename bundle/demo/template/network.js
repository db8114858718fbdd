// The forward pass of the trained network. This runs in a worker, so that the page stays responsive.
//
// A map holds its values channel by channel: { values: Float32Array, channels, height, width }.
"use strict";

const TILE = 4; // a product of matrices is computed in tiles of so many rows and columns

// Weights and numbers as they stand in the page, in base64.
function bytes(text) {
  const binary = atob(text), found = new Uint8Array(binary.length);
  for (let at = 0; at < found.length; at += 1) found[at] = binary.charCodeAt(at);
  return found;
}

// Whole numbers of `bits` bits each, side by side from the lowest bit on, less the largest weight.
function reader(coded, bits) {
  const mask = 2 ** bits - 1, middle = 2 ** (bits - 1) - 1;
  return (at) => {
    const byte = Math.floor((at * bits) / 8), shift = (at * bits) % 8;
    const three = coded[byte] | (coded[byte + 1] << 8) | (coded[byte + 2] << 16);
    return ((three >> shift) & mask) - middle;
  };
}

// Rows of `depth` values to tiles of TILE rows, in which equal places of the rows lie side by side.
function packRows(rows, depth, valueAt) {
  const packed = new Float32Array(Math.ceil(rows / TILE) * TILE * depth);
  for (let row = 0; row < rows; row += 1) {
    const start = (row - (row % TILE)) * depth + (row % TILE);
    for (let at = 0; at < depth; at += 1) packed[start + at * TILE] = valueAt(row, at);
  }
  return packed;
}

// The convolutions' weights are unpacked once.
function unpack(network) {
  const read = reader(bytes(network.weights), network.bits);
  const numbers = new Float32Array(bytes(network.numbers).buffer);
  for (const step of network.steps.filter((one) => one.op === "convolution")) {
    const depth = step.channels[0] * step.size * step.size;
    step.packed = packRows(step.channels[1], depth,
      (row, at) => read(step.weights + row * depth + at) * numbers[step.scale + row]);
  }
  return { ...network, numbers };
}

// The patch of each pixel of the result as a packed row: what the convolution's weights multiply.
function patches({ values, channels, height, width }, { size, stride, padding }, rows, columns) {
  const depth = channels * size * size;
  const packed = new Float32Array(Math.ceil((rows * columns) / TILE) * TILE * depth);
  for (let pixel = 0; pixel < rows * columns; pixel += 1) {
    const top = Math.floor(pixel / columns) * stride - padding;
    const left = (pixel % columns) * stride - padding;
    let target = (pixel - (pixel % TILE)) * depth + (pixel % TILE);
    for (let channel = 0; channel < channels; channel += 1) {
      for (let y = top; y < top + size; y += 1) {
        const start = (channel * height + y) * width;
        for (let x = left; x < left + size; x += 1, target += TILE) {
          const inside = y >= 0 && y < height && x >= 0 && x < width;
          if (inside) packed[target] = values[start + x]; // what lies outside is 0
        }
      }
    }
  }
  return packed;
}

// result[row, column] = bias[row] + sum over k of left[row, k] * right[column, k]; both packed.
function multiply(left, right, depth, rows, columns, biases, result) {
  for (let column = 0; column < columns; column += TILE) {
    for (let row = 0; row < rows; row += TILE) {
      let a = row * depth, b = column * depth;
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let k = 0; k < depth; k += 1, a += TILE, b += TILE) {
        const a0 = left[a], a1 = left[a + 1], a2 = left[a + 2], a3 = left[a + 3];
        const b0 = right[b], b1 = right[b + 1], b2 = right[b + 2], b3 = right[b + 3];
        s00 += a0 * b0; s01 += a0 * b1; s02 += a0 * b2; s03 += a0 * b3;
        s10 += a1 * b0; s11 += a1 * b1; s12 += a1 * b2; s13 += a1 * b3;
        s20 += a2 * b0; s21 += a2 * b1; s22 += a2 * b2; s23 += a2 * b3;
        s30 += a3 * b0; s31 += a3 * b1; s32 += a3 * b2; s33 += a3 * b3;
      }
      const sums = [s00, s01, s02, s03, s10, s11, s12, s13, s20, s21, s22, s23, s30, s31, s32, s33];
      for (let i = 0; i < TILE && row + i < rows; i += 1) {
        for (let j = 0; j < TILE && column + j < columns; j += 1) {
          result[(row + i) * columns + column + j] = sums[i * TILE + j] + biases[row + i];
        }
      }
    }
  }
}

// erf, to 1.5e-7: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
    + 0.254829592) * t;
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const each = (map, change) => ({ ...map, values: map.values.map(change) });
const byChannel = ({ height, width }, change) =>
  (value, at) => change(value, Math.floor(at / (height * width)));

const OPERATIONS = {
  convolution(step, map, numbers) {
    const { channels: [, channels], size, stride, padding } = step;
    const out = (length) => Math.floor((length + 2 * padding - size) / stride) + 1;
    const height = out(map.height), width = out(map.width);
    const values = new Float32Array(channels * height * width);
    multiply(step.packed, patches(map, step, height, width), map.channels * size * size,
      channels, height * width, numbers.subarray(step.bias), values);
    return { values, channels, height, width };
  },
  norm: (step, map, numbers) => each(map, byChannel(map,
    (value, channel) => value * numbers[step.scale + channel] + numbers[step.shift + channel])),
  relu: (_, map) => each(map, (value) => Math.max(value, 0)),
  gelu: (_, map) => each(map, (value) => 0.5 * value * (1 + erf(value * Math.SQRT1_2))),
  add: (_, map, __, other) => each(map, (value, at) => value + other.values[at]),
  scale: (step, map) => each(map, (value) => value * step.factor),
  maximum({ size }, map) {
    const height = Math.floor(map.height / size), width = Math.floor(map.width / size);
    const values = new Float32Array(map.channels * height * width).fill(-Infinity);
    for (let at = 0; at < map.values.length; at += 1) {
      const x = Math.floor((at % map.width) / size);
      const y = Math.floor((Math.floor(at / map.width) % map.height) / size);
      if (x >= width || y >= height) continue; // a rest that fills no window
      const target = (Math.floor(at / (map.width * map.height)) * height + y) * width + x;
      values[target] = Math.max(values[target], map.values[at]);
    }
    return { ...map, values, height, width };
  },
  pool({ largest }, map) { // over the whole map: one value a channel
    const pixels = map.height * map.width;
    const values = Float32Array.from({ length: map.channels }, (_, channel) => {
      const part = map.values.subarray(channel * pixels, (channel + 1) * pixels);
      return largest ? Math.max(...part) : part.reduce((sum, value) => sum + value, 0) / pixels;
    });
    return { values, channels: map.channels, height: 1, width: 1 };
  },
};

// Pixels (Uint8, RGB by RGB, row by row) of an image of side by side pixels to logits.
function classify(network, pixels, side) {
  const count = side * side, image = new Float32Array(3 * count);
  for (let at = 0; at < image.length; at += 1) {
    const channel = Math.floor(at / count);
    const share = pixels[(at % count) * 3 + channel] / 255;
    image[at] = (share - network.mean[channel]) / network.std[channel];
  }
  const maps = [{ values: image, channels: 3, height: side, width: side }];
  for (const step of network.steps) {
    const [first, second] = step.from.map((at) => maps[at]);
    maps.push(OPERATIONS[step.op](step, first, network.numbers, second));
  }
  return Array.from(maps[maps.length - 1].values);
}

let loaded = null;
self.onmessage = ({ data }) => {
  if (data.network) loaded = unpack(data.network);
  if (!data.pixels) return;
  const start = performance.now(), logits = classify(loaded, data.pixels, data.side);
  self.postMessage({ logits, seconds: (performance.now() - start) / 1000, number: data.number });
};
