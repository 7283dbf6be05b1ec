// Rows of bytes that lie together in the output, cut into slots: up to VECTOR bytes that end where the
// output is aligned, so that each is one wide store.
//
// A row of n bytes has (n + 2 * (VECTOR - 1)) / VECTOR slots, some of which may be empty; a block does
// ROWS_TILE slots of one piece, a thread AT_ONCE of them. Where a row begins is worked out once for
// all its slots, and kept in shared memory.
#pragma once

#include "common.cuh"

#define AXES_LOOP NOT_UNROLLED
#include "pieces.cuh"
#include "slots.cuh"

// Where a row begins: elements from the chunk's begin, address in the output.
struct Line {
  i64 source;
  u64 target;
};

// The slots of a block.
struct Tile {
  i64 slots;    // of a row
  i64 inside;   // number of the block's first slot in its row
  i32 count;    // slots of the block that are the piece's
  u32 inverse;  // ceil(2^32 / slots), where there are fewer than ROWS_TILE
};

// Find the block's rows. run: bytes of a row. Everyone has to come here: there is a barrier.
__device__ __forceinline__ Tile find_lines(Line *lines, const i64 *row, i64 outer, i64 run, i64 lists,
                                           const i64 *list_source, const i64 *list_target,
                                           i64 block) {
  i64 rows = elements_of(row, outer), slots = (run + 2 * (VECTOR - 1)) / VECTOR;
  i64 all = rows * slots, first = block * ROWS_TILE;
  bool small = (u64)(first | slots) < 1ull << 32;  // division of 32 bits is several times faster
  i64 line = small ? (i64)((u32)first / (u32)slots) : first / slots;
  i32 count = all < first ? 0 : all - first < ROWS_TILE ? (i32)(all - first) : ROWS_TILE;
  Tile tile = {slots, first - line * slots, count, 0};
  if (slots > 1 && slots < ROWS_TILE) tile.inverse = 0xffffffffu / (u32)slots + 1;
  i64 end = count ? tile.inside + count : 0;
  for (i64 k = threadIdx.x; k * slots < end; k += THREADS) {
    Place place = place_of(row, outer, lists, list_source, list_target, line + k, rows);
    lines[k] = {place.element, place.target};
  }
  __syncthreads();
  return tile;
}

// A slot of the block.
__device__ __forceinline__ Slot slot_of(const Line *lines, const Tile &tile, i64 run, u32 number) {
  Slot slot = {0, 0, nullptr, 0, 0};
  if ((i32)number >= tile.count) return slot;
  i64 place = tile.inside + number, line = place;
  if (tile.slots >= ROWS_TILE) {
    line = place >= tile.slots;
  } else if (tile.slots > 1) {
    line = __umulhi((u32)place, tile.inverse);  // exact, as both numbers are below 2 * ROWS_TILE
  }
  u64 target = lines[line].target;
  slot.source = lines[line].source;
  slot.begin = (place - line * tile.slots) * VECTOR - (i64)(target & (VECTOR - 1));
  slot.target = writable_at(target + (u64)slot.begin);
  i64 rest = run - slot.begin;
  slot.low = slot.begin < 0 ? (i32)-slot.begin : 0;
  slot.high = rest < VECTOR ? (i32)rest : VECTOR;
  if (slot.high <= slot.low) slot.low = slot.high = 0;
  return slot;
}
