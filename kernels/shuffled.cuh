// Chunks whose bytes are shuffled: all first bytes of a block's elements, then all second ones, ...
#pragma once

#include "common.cuh"

// A chunk whose bytes are shuffled, each block of it on its own: byte j of the block's element i lies
// at j * count + i; bytes behind the block's last whole element stay in place.
struct Shuffled {
  const u8 *bytes;
  i64 nbytes, typesize, block;
  bool whole;  // elements are those of the shuffle, no block cuts one, and 32 bits count them
};

__device__ __forceinline__ Shuffled shuffled_chunk(const u8 *bytes, i64 nbytes, i64 typesize, i64 block,
                                                   i64 pitch) {
  bool whole = typesize == pitch && block >= pitch && block % pitch == 0;
  return {bytes, nbytes, typesize, block, whole && nbytes < 1ll << 31 && block < 1ll << 31};
}

// The byte at a place of a chunk, counted as if it were not shuffled.
__device__ __forceinline__ u8 shuffled_byte(const Shuffled &chunk, i64 byte) {
  i64 begin = byte / chunk.block * chunk.block, inside = byte - begin;
  i64 length = chunk.nbytes - begin < chunk.block ? chunk.nbytes - begin : chunk.block;
  i64 count = length / chunk.typesize, element = inside / chunk.typesize;
  if (element >= count) return chunk.bytes[byte];
  return chunk.bytes[begin + (inside - element * chunk.typesize) * count + element];
}
