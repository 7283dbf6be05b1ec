// Pieces whose rows are runs of elements on both sides, put together from byte planes or with their bytes
// reversed.
//
// pieces, first_block, lists, chunk columns: as in scatter.cu; the last axis is a run of elements of `item`
// bytes (2, 4, 8 or 16), none of which is left out, that lie together on both sides. The bytes of their
// components of `swap` bytes (0, or 2, 4 or 8, at most item) are reversed. Chunks may be shuffled in any
// way or not at all; the fast way is that of chunks that are not, and of those whose shuffle knows
// elements of the same size.
// Launch: THREADS threads; rows.cuh says what a block does.
// Moves: a byte read and a byte written for each byte out. A slot is written as a vector; it takes
// VECTOR / item neighbours from each plane, in one load where they are aligned, so that a warp reads
// each plane once and without gaps.
#include "rows.cuh"
#include "shuffled.cuh"

#ifdef CONST_ITEM
#define ITEM ((i64)CONST_ITEM)
#define SWAP ((i64)CONST_SWAP)
#else
#define ITEM item
#define SWAP swap
#endif

// Where the bytes of a slot are: those of element i, counted from the vector's begin, at
// first + i + plane * stride.
struct Planes {
  u64 first;
  u32 stride;
  bool one;  // the slot's elements are of one block of the shuffle
};

__device__ __forceinline__ Planes planes_of(const Shuffled &chunk, i64 element, i64 item, i32 low,
                                            i32 high) {
  u32 per_block = (u32)chunk.block / (u32)item, all = (u32)chunk.nbytes / (u32)item;
  u32 begin = (u32)(element + low / item), last = (u32)(element + high / item) - 1;
  u32 before = begin / per_block * per_block;  // elements of the blocks before
  u32 count = all - before < per_block ? all - before : per_block;
  u64 first = reinterpret_cast<u64>(chunk.bytes) + (u64)before * (u64)item + (u64)(element - before);
  return {first, count, last - before < count};
}

// A slot from its planes. flip: number of a plane, to be combined with that of a byte.
template <i32 SIZE>
__device__ __forceinline__ void load_planes(u32 (&value)[4], const Planes &planes, u32 flip, i32 low,
                                            i32 high) {
  constexpr i32 EACH = VECTOR / SIZE;
  bool wide = EACH > 1 && high - low == VECTOR && (planes.first | planes.stride) % EACH == 0;
  value[0] = value[1] = value[2] = value[3] = 0;
  u32 bytes[SIZE][(EACH + 3) / 4];
  UNROLLED
  for (u32 j = 0; j < SIZE; j++) {
    const u8 *from = bytes_at(planes.first + (u64)(j ^ flip) * planes.stride);
    for (u32 &four : bytes[j]) four = 0;
    if (wide && EACH == 8) {
      uint2 pair = __ldg(reinterpret_cast<const uint2 *>(from));
      bytes[j][0] = pair.x;
      bytes[j][EACH / 8] = pair.y;
    } else if (wide && EACH == 4) {
      bytes[j][0] = __ldg(reinterpret_cast<const u32 *>(from));
    } else if (wide) {
      bytes[j][0] = __ldg(reinterpret_cast<const u16 *>(from));
    } else {
      UNROLLED
      for (i32 i = 0; i < EACH; i++) {
        if (low <= i * SIZE && i * SIZE < high) bytes[j][i / 4] |= (u32)__ldg(from + i) << i % 4 * 8;
      }
    }
  }
  UNROLLED
  for (i32 at = 0; at < VECTOR; at++) {
    i32 i = at / SIZE;
    value[at / 4] |= (bytes[at % SIZE][i / 4] >> i % 4 * 8 & 0xff) << at % 4 * 8;
  }
}

// Reverse the bytes of components.
__device__ __forceinline__ void reverse_bytes(u32 (&value)[4], i64 swap) {
  if (swap <= 1) return;
  UNROLLED
  for (u32 w = 0; w < 4; w++) value[w] = __byte_perm(value[w], 0, swap == 2 ? 0x2301 : 0x0123);
  if (swap != 8) return;
  UNROLLED
  for (u32 w = 0; w < 4; w += 2) {
    u32 first = value[w];
    value[w] = value[w + 1];
    value[w + 1] = first;
  }
}

// Any bytes of any chunk, one by one.
__device__ __forceinline__ void copy_bytes(const Slot &slot, const Shuffled &chunk, i64 item, u32 flip) {
  NOT_UNROLLED
  for (i32 at = slot.low; at < slot.high; at++) {
    u32 place = (u32)((slot.begin + at) % item);
    i64 byte = slot.source * item + slot.begin + at - place + (place ^ flip);
    slot.target[at] = chunk.typesize ? shuffled_byte(chunk, byte) : chunk.bytes[byte];
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
scatter_planes(const i64 *__restrict__ pieces, const i64 *__restrict__ first_block, i64 npieces,
               i64 naxes, i64 lists, const i64 *__restrict__ list_source,
               const i64 *__restrict__ list_target, const u64 *__restrict__ chunk_address,
               const i64 *__restrict__ chunk_nbytes, const i64 *__restrict__ chunk_typesize,
               const i64 *__restrict__ chunk_block, i64 item, i64 swap) {
  __shared__ Line lines[ROWS_TILE];
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * naxes);
  i64 outer = naxes - 1, run = row[3 + 3 * outer] * ITEM;
  Tile tile = find_lines(lines, row, outer, run, lists, list_source, list_target,
                         blockIdx.x - first_block[piece]);
  u64 address = chunk_address[row[0]];
  Shuffled chunk = shuffled_chunk(bytes_at(address), chunk_nbytes[row[0]], chunk_typesize[row[0]],
                                  chunk_block[row[0]], ITEM);
  NOT_UNROLLED
  for (u32 k = 0; k < AT_ONCE; k++) {
    Slot slot = slot_of(lines, tile, run, threadIdx.x + k * THREADS);
    if (!slot.high) continue;
    u32 value[4], flip = SWAP > 1 ? (u32)SWAP - 1 : 0;
    bool whole = slot.begin % ITEM == 0;
    if (whole && !chunk.typesize) {
      u64 source = address + (u64)(slot.source * ITEM + slot.begin);
      load_bytes(value, source, slot.low, slot.high, address, address + (u64)chunk.nbytes);
      reverse_bytes(value, SWAP);
      store_slot(slot, value);
      continue;
    }
    Planes planes = {};
    i64 element = slot.source + slot.begin / ITEM;
    if (whole && chunk.whole) planes = planes_of(chunk, element, ITEM, slot.low, slot.high);
    if (!planes.one) {
      copy_bytes(slot, chunk, ITEM, flip);
      continue;
    }
    if (ITEM == 2) {
      load_planes<2>(value, planes, flip, slot.low, slot.high);
    } else if (ITEM == 4) {
      load_planes<4>(value, planes, flip, slot.low, slot.high);
    } else if (ITEM == 8) {
      load_planes<8>(value, planes, flip, slot.low, slot.high);
    } else {
      load_planes<16>(value, planes, flip, slot.low, slot.high);
    }
    store_slot(slot, value);
  }
  (void)item, (void)swap;
}
EXPORT_SYNC(scatter_planes)
