// blosclz, the compressor that Blosc brought along: one thread a stream.
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
// ceil(n / THREADS) blocks. Moves: nbytes read and twice the output at most, byte by byte.
#include "common.cuh"

#define DAMAGED 12
#define FAR (31 << 8)
#define FAR_MORE 8191

struct Copied {
  i64 length, distance;
};

// Read the rest of a copy's description; false where the stream ends too early.
__device__ __forceinline__ bool read_copy(const u8 *from, i64 end, u32 ctrl, i64 *at, Copied *copied) {
  i64 length = (ctrl >> 5) - 1, distance = (i64)(ctrl & 31) << 8;
  u32 code = 255;
  if (length == 6) {
    while (code == 255) {
      if (*at + 1 >= end) return false;
      code = from[(*at)++];
      length += code;
    }
  } else if (*at + 1 >= end) {
    return false;
  }
  code = from[(*at)++];
  if (code == 255 && distance == FAR) {
    if (*at + 1 >= end) return false;
    distance = ((i64)from[*at] << 8) + from[*at + 1] + FAR_MORE;
    *at += 2;
  } else {
    distance += code;
  }
  *copied = {length + 3, distance + 1};
  return true;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
blosclz(const u64 *source, const u64 *nbytes, const u64 *target, const u64 *capacity, u64 *actual,
        i32 *outcome, i64 n) {
  i64 stream = (i64)blockIdx.x * THREADS + threadIdx.x;
  if (stream >= n) return;
  const u8 *from = bytes_at(source[stream]);
  u8 *to = writable_at(target[stream]);
  i64 end = (i64)nbytes[stream], room = (i64)capacity[stream], at = 1, out = 0;
  bool good = end > 0;
  u32 ctrl = good ? from[0] & 31u : 0;
  while (good) {
    if (ctrl >= 32) {
      Copied copied;
      good = read_copy(from, end, ctrl, &at, &copied) && copied.distance <= out &&
             copied.length <= room - out;
      if (!good || at >= end) break;
      for (i64 i = 0; i < copied.length; i++, out++) to[out] = to[out - copied.distance];
    } else {
      i64 length = ctrl + 1;
      good = length <= room - out && length <= end - at;
      if (!good) break;
      for (i64 i = 0; i < length; i++) to[out++] = from[at++];
      if (at >= end) break;
    }
    ctrl = from[at++];
  }
  actual[stream] = (u64)out;
  outcome[stream] = good ? 0 : DAMAGED;
}
EXPORT(blosclz)
