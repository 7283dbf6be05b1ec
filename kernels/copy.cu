// Ranges of bytes to other places: streams that are stored as they are, and streams that must be
// brought to where nvCOMP takes them.
//
// source, target: [n] addresses, at any alignment; nbytes: [n]; first_block: [n + 1].
// Launch: THREADS threads, ceil(nbytes / COPY_TILE) blocks a range.
// Moves: a byte read and a byte written for each byte out. Slots are those of
// slots.cuh: vectors on both sides where they are aligned alike, else words that are shifted into place.
#include "slots.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
copy_ranges(const u64 *source, const u64 *target, const i64 *nbytes, const i64 *first_block, i64 n) {
  i64 range = find_item(first_block, n, blockIdx.x);
  i64 first = (blockIdx.x - first_block[range]) * COPY_TILE;
  i64 end = first + COPY_TILE < nbytes[range] ? first + COPY_TILE : nbytes[range];
  u64 from = source[range], to = target[range];
  i64 start = first - (i64)((to + (u64)first) % VECTOR);  // the first slot's vector
  for (; start < end; start += AT_ONCE * THREADS * VECTOR) {
    copy_slots(from, from + (u64)nbytes[range], [&](u32 k) {
      Slot slot = {0, start + (threadIdx.x + k * THREADS) * VECTOR, nullptr, 0, 0};
      if (slot.begin >= end) return slot;
      slot.target = writable_at(to + (u64)slot.begin);
      slot.low = slot.begin < first ? (i32)(first - slot.begin) : 0;
      slot.high = end - slot.begin < VECTOR ? (i32)(end - slot.begin) : VECTOR;
      return slot;
    });
  }
}
EXPORT(copy_ranges)
