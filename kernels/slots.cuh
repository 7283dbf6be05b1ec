// Slots: bytes that end where the output is aligned, and are written as one vector if there are VECTOR.
#pragma once

#include "common.cuh"

#define AT_ONCE (ROWS_TILE / THREADS)  // slots of a thread

// Bytes low to high, of the VECTOR bytes at `target`; without any both are 0. `begin` is where the vector
// begins in its row, and `source` the row's.
struct Slot {
  i64 source, begin;
  u8 *target;
  i32 low, high;
};

// Bytes low to high of the VECTOR bytes at `source`, which has any alignment; the others mean nothing.
// Read are words of 4 bytes, shifted into place, or single bytes where a word would reach beyond the chunk.
__device__ __forceinline__ void load_bytes(u32 (&value)[4], u64 source, i32 low, i32 high, u64 chunk,
                                           u64 chunk_end) {
  u64 begin = source + (u64)(i64)low, end = source + (u64)(i64)high, word = source & ~3ull;
  bool inside = (begin & ~3ull) >= chunk && ((end + 3) & ~3ull) <= chunk_end;
  u32 words[5];
  UNROLLED
  for (u32 w = 0; w < 5; w++, word += 4) {
    words[w] = 0;
    if (word + 4 <= begin || word >= end) continue;
    if (inside) {
      words[w] = __ldg(reinterpret_cast<const u32 *>(bytes_at(word)));
      continue;
    }
    UNROLLED
    for (u32 b = 0; b < 4; b++) {
      if (word + b >= begin && word + b < end) words[w] |= (u32)__ldg(bytes_at(word + b)) << 8 * b;
    }
  }
  UNROLLED
  for (u32 w = 0; w < 4; w++) {
    value[w] = __funnelshift_r(words[w], words[w + 1], 8 * (u32)(source & 3));
  }
}

// Write the bytes of a slot, which `value` holds where they lie in the vector.
__device__ __forceinline__ void store_slot(const Slot &slot, const u32 (&value)[4]) {
  if (slot.high - slot.low == VECTOR) {
    __stcg(reinterpret_cast<uint4 *>(slot.target), uint4{value[0], value[1], value[2], value[3]});
    return;
  }
  UNROLLED
  for (i32 at = 0; at < VECTOR; at += 4) {
    if (slot.low <= at && at + 4 <= slot.high) {
      __stcg(reinterpret_cast<u32 *>(slot.target + at), value[at / 4]);
      continue;
    }
    UNROLLED
    for (i32 k = 0; k < 4; k++) {
      if (slot.low <= at + k && at + k < slot.high) {
        __stcg(slot.target + at + k, (u8)(value[at / 4] >> 8 * k));
      }
    }
  }
}

// Copy AT_ONCE slots of a source from `source` to `end`; slot_of(k) gives each. Where all are vectors on
// both sides, all loads are under way before the first store.
template <class SlotOf>
__device__ __forceinline__ void copy_slots(u64 source, u64 end, SlotOf slot_of) {
  u64 from[AT_ONCE];
  u8 *to[AT_ONCE];
  bool vectors = true;
  UNROLLED
  for (u32 k = 0; k < AT_ONCE; k++) {
    Slot slot = slot_of(k);
    from[k] = source + (u64)(slot.source + slot.begin);
    to[k] = slot.high ? slot.target : nullptr;
    bool vector = slot.high - slot.low == VECTOR && from[k] % VECTOR == 0;
    vectors = vectors && (vector || !slot.high);
  }
  if (vectors) {
    uint4 value[AT_ONCE];
    UNROLLED
    for (u32 k = 0; k < AT_ONCE; k++) {
      if (to[k]) value[k] = __ldg(reinterpret_cast<const uint4 *>(bytes_at(from[k])));
    }
    UNROLLED
    for (u32 k = 0; k < AT_ONCE; k++) {
      if (to[k]) __stcg(reinterpret_cast<uint4 *>(to[k]), value[k]);
    }
    return;
  }
  NOT_UNROLLED
  for (u32 k = 0; k < AT_ONCE; k++) {
    Slot slot = slot_of(k);
    if (!slot.high) continue;
    u32 value[4];
    load_bytes(value, source + (u64)(slot.source + slot.begin), slot.low, slot.high, source, end);
    store_slot(slot, value);
  }
}
