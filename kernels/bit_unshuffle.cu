// Bit planes back to elements: Blosc's bit shuffle, and bitshuffle's.
//
// An item of `nbytes` bytes holds count = nbytes / typesize elements. Bit k of byte j of element e is
// bit e % 8 of byte e / 8 of plane 8 * j + k; a plane has whole / 8 bytes. Blosc 1 (round_down 0)
// leaves an item alone whose count is no multiple of 8; with round_down 1 the first whole = count / 8 * 8
// elements are shuffled. Bytes behind the shuffled elements stay where they are.
//
// source, target: [n] addresses; nbytes, typesize: [n]; first_block: [n + 1].
// Launch: THREADS threads, ceil(max(count, 1) / BIT_TILE) blocks an item; a thread does 8 elements, which
// are a byte of each plane.
// Moves: a byte read and a byte written for each byte out. A warp reads 32 bytes of each plane, that is
// every sector once, and writes vectors side by side where elements have 1, 2, 4 or 8 bytes and the
// target is aligned.
#include "common.cuh"

// Eight bytes of one element each, in two words.
struct Eight {
  u32 low, high;
};

// Byte j of 8 elements from 8 planes: bit e of the k-th byte becomes bit k of the e-th one.
__device__ __forceinline__ Eight transposed_bits(const u8 *from, i64 plane) {
  u32 rows[8];
  UNROLLED
  for (i64 k = 0; k < 8; k++) rows[k] = __ldg(from + k * plane);
  u32 low = rows[0] | rows[1] << 8 | rows[2] << 16 | rows[3] << 24;
  u32 high = rows[4] | rows[5] << 8 | rows[6] << 16 | rows[7] << 24;
  u32 other = (low ^ low >> 7) & 0x00aa00aa;  // squares of 2 x 2 bits
  low ^= other ^ other << 7;
  other = (high ^ high >> 7) & 0x00aa00aa;
  high ^= other ^ other << 7;
  other = (low ^ low >> 14) & 0x0000cccc;  // of 4 x 4
  low ^= other ^ other << 14;
  other = (high ^ high >> 14) & 0x0000cccc;
  high ^= other ^ other << 14;
  other = (low ^ high << 4) & 0xf0f0f0f0;  // of 8 x 8
  return {low ^ other, high ^ other >> 4};
}

// The i-th word of 8 elements of SIZE bytes, whose bytes j are in bytes[j].
template <i32 SIZE>
__device__ __forceinline__ u32 word_of(const Eight (&bytes)[SIZE], i32 i) {
  u32 word = 0;
  UNROLLED
  for (i32 at = 4 * i; at < 4 * i + 4; at++) {
    i32 e = at / SIZE;
    const Eight &eight = bytes[at % SIZE];
    word |= ((e < 4 ? eight.low : eight.high) >> e % 4 * 8 & 0xff) << at % 4 * 8;
  }
  return word;
}

// 8 elements a thread, from group `group` on of an item whose target is aligned. Vectors of a thread go
// through shared memory, which lets the warp write its vectors side by side.
template <i32 SIZE>
__device__ __forceinline__ void unshuffle_groups(const u8 *from, u8 *to, i64 plane, i64 group,
                                                 uint4 *stage) {
  Eight bytes[SIZE];
  bool here = group < plane;
  UNROLLED
  for (i64 j = 0; j < SIZE; j++) {
    if (here) bytes[j] = transposed_bits(from + 8 * j * plane + group, plane);
  }
  if (SIZE == 1) {
    if (here) __stcg(reinterpret_cast<uint2 *>(to + 8 * group), uint2{bytes[0].low, bytes[0].high});
    return;
  }
  constexpr u32 VECTORS = SIZE > 1 ? SIZE / 2 : 1;  // of a thread
  u32 lane = threadIdx.x % WARP;
  stage += threadIdx.x / WARP * (WARP * VECTORS);
  if (here) {
    UNROLLED
    for (u32 v = 0; v < VECTORS; v++) {
      u32 place = lane * VECTORS + v;  // turned, so that eight neighbours use all banks
      u32 words[4];
      UNROLLED
      for (i32 w = 0; w < 4; w++) words[w] = word_of<SIZE>(bytes, (i32)(4 * v) + w);
      stage[place ^ (place >> 3 & (VECTORS - 1))] = {words[0], words[1], words[2], words[3]};
    }
  }
  __syncwarp();
  i64 first = (group - lane) * VECTORS, all = plane * VECTORS;
  UNROLLED
  for (u32 v = 0; v < VECTORS; v++) {
    u32 place = v * WARP + lane;
    if (first + place >= all) continue;
    __stcg(reinterpret_cast<uint4 *>(to) + first + place, stage[place ^ (place >> 3 & (VECTORS - 1))]);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
bit_unshuffle(const u64 *source, const u64 *target, const i64 *nbytes, const i64 *typesize,
              const i64 *first_block, i64 n, i64 round_down) {
  __shared__ uint4 stage[4 * THREADS];
  i64 item = find_item(first_block, n, blockIdx.x);
  const u8 *from = bytes_at(source[item]);
  u8 *to = writable_at(target[item]);
  i64 size = typesize[item], length = nbytes[item], count = length / size;
  i64 whole = round_down ? count / 8 * 8 : (count % 8 ? 0 : count);
  i64 plane = whole / 8, first = (blockIdx.x - first_block[item]) * BIT_TILE;
  i64 group = first / 8 + threadIdx.x;
  bool is_last = blockIdx.x + 1 == first_block[item + 1];
  if (size == 1 && is_aligned(to, 8)) {
    unshuffle_groups<1>(from, to, plane, group, stage);
  } else if (size == 2 && is_aligned(to, VECTOR)) {
    unshuffle_groups<2>(from, to, plane, group, stage);
  } else if (size == 4 && is_aligned(to, VECTOR)) {
    unshuffle_groups<4>(from, to, plane, group, stage);
  } else if (size == 8 && is_aligned(to, VECTOR)) {
    unshuffle_groups<8>(from, to, plane, group, stage);
  } else if (group < plane) {
    for (i64 j = 0; j < size; j++) {
      Eight bytes = transposed_bits(from + 8 * j * plane + group, plane);
      u8 *at = to + 8 * group * size + j;
      for (u32 e = 0; e < 8; e++) {
        __stcg(at + e * size, (u8)((e < 4 ? bytes.low : bytes.high) >> e % 4 * 8));
      }
    }
  }
  // What is not shuffled: elements of this tile, and in the last one all the rest.
  i64 begin = (first > whole ? first : whole) * size;
  i64 end = is_last ? length : (first + BIT_TILE) * size;
  for (i64 i = begin + threadIdx.x; i < end; i += THREADS) __stcg(to + i, __ldg(from + i));
}
EXPORT_SYNC(bit_unshuffle)
