// blosclz, the compressor that Blosc brought along: a warp a stream.
//
// A stream is a sequence of runs of literals and of copies of what came before:
//   ctrl < 32    ctrl + 1 literals follow
//   ctrl >= 32   a copy of (ctrl >> 5) + 2 bytes from distance ((ctrl & 31) << 8) + next byte + 1;
//                length bits of 7 are followed by bytes that are added while they are 255; a distance
//                of 31 << 8 + 255 is followed by two bytes, big-endian, to be added to 8191
// The first byte's upper three bits mean nothing. Everything is held against both ends. A stream ends
// with literals: a copy that nothing follows is left out, as c-blosc leaves it out, so that both give
// too few bytes for a stream that was cut there.
//
// source, target: [n] addresses; nbytes, capacity: [n]; written: actual: [n] bytes that came out;
// outcome: [n] 0, or 12 (as nvCOMP's) for a damaged stream. Launch: THREADS threads,
// ceil(n / WARPS) blocks. Moves: nbytes read and twice the output at most: a warp's lanes hold the next WARP
// bytes of the stream, agree on what they mean, and write literals and copies side by side.
#include "common.cuh"

#define DAMAGED 12
#define FAR (31 << 8)
#define FAR_MORE 8191
#define EVERY 0xffffffffu  // lanes of the warp
#define AT_ONCE 4          // bytes of a copy that a lane has under way

struct Copied {
  i64 length, distance;
};

// A stream, of which lane k holds byte base + k.
struct Window {
  const u8 *from;
  i64 end, base;
  u32 byte;

  __device__ __forceinline__ void move(i64 at) {
    i64 place = at + threadIdx.x % WARP;
    base = at;
    byte = place < end ? __ldg(from + place) : 0;
  }

  // A byte at or behind the base, for all lanes; 0 behind the end.
  __device__ __forceinline__ u32 at(i64 place) {
    if (place - base >= WARP) move(place);
    return __shfl_sync(EVERY, byte, (i32)(place - base));
  }
};

// Read the rest of a copy's description; false where the stream ends too early.
__device__ __forceinline__ bool read_copy(Window &window, u32 ctrl, i64 *at, Copied *copied) {
  i64 length = (ctrl >> 5) - 1, distance = (i64)(ctrl & 31) << 8, end = window.end;
  u32 code = 255;
  if (length == 6) {
    while (code == 255) {
      if (*at + 1 >= end) return false;
      code = window.at((*at)++);
      length += code;
    }
  } else if (*at + 1 >= end) {
    return false;
  }
  code = window.at((*at)++);
  if (code == 255 && distance == FAR) {
    if (*at + 1 >= end) return false;
    u32 high = window.at(*at);
    distance = ((i64)high << 8) + window.at(*at + 1) + FAR_MORE;
    *at += 2;
  } else {
    distance += code;
  }
  *copied = {length + 3, distance + 1};
  return true;
}

// Write what a copy says to `to`. A copy that is longer than its distance repeats itself: so each byte
// comes from before `to`, and no lane waits for another.
__device__ __forceinline__ void copy(u8 *to, const Copied &copied, u32 lane) {
  u32 distance = (u32)copied.distance, phase = lane, step = WARP;
  if (distance < WARP) phase = lane % distance, step = WARP % distance;
  const u8 *source = to - distance;
  for (i64 i = lane; i < copied.length; i += AT_ONCE * WARP) {
    u8 bytes[AT_ONCE];
    UNROLLED
    for (i64 k = 0; k < AT_ONCE; k++) {
      bytes[k] = i + k * WARP < copied.length ? source[phase] : 0;
      phase += step;
      if (phase >= distance) phase -= distance;
    }
    UNROLLED
    for (i64 k = 0; k < AT_ONCE; k++) {
      if (i + k * WARP < copied.length) to[i + k * WARP] = bytes[k];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
blosclz(const u64 *source, const u64 *nbytes, const u64 *target, const u64 *capacity, u64 *actual,
        i32 *outcome, i64 n) {
  i64 stream = (i64)blockIdx.x * WARPS + threadIdx.x / WARP;
  if (stream >= n) return;  // with all of its warp
  u32 lane = threadIdx.x % WARP;
  i64 end = (i64)nbytes[stream], room = (i64)capacity[stream], at = 0, out = 0;
  Window window = {bytes_at(source[stream]), end, 0, 0};
  u8 *to = writable_at(target[stream]);
  bool good = end > 0;
  while (good) {
    window.move(at);
    u32 ctrl = window.at(at);
    if (at++ == 0) ctrl &= 31;
    if (ctrl >= 32) {
      Copied copied;
      good = read_copy(window, ctrl, &at, &copied) && copied.distance <= out &&
             copied.length <= room - out;
      if (!good || at >= end) break;
      __syncwarp();  // what was written before can be read
      copy(to + out, copied, lane);
      out += copied.length;
    } else {
      i64 length = ctrl + 1;
      good = length <= room - out && length <= end - at;
      if (!good) break;
      // Lane 0 held the control byte: it has the last of WARP literals.
      u32 place = lane ? lane - 1 : WARP - 1;
      u32 byte = lane || length < WARP ? window.byte : __ldg(window.from + at + WARP - 1);
      if (place < length) to[out + place] = (u8)byte;
      out += length;
      at += length;
      if (at >= end) break;
    }
  }
  if (lane) return;
  actual[stream] = (u64)out;
  outcome[stream] = good ? 0 : DAMAGED;
}
EXPORT_SYNC(blosclz)
