// Pieces of chunks and their places in outputs, as rows of integers:
//
//   chunk | first element | target address | for each axis: extent, source step, target step
//
// Source steps count elements of the stored chunk, target steps bytes. An axis whose bit is set in
// `lists` has a row of two tables instead of a source step: place k adds list_source[row + k] elements
// and list_target[row + k] bytes.
#pragma once

#include "common.cuh"

#ifndef AXES_LOOP
#define AXES_LOOP  // before the loop over axes; NOT_UNROLLED, where registers are few
#endif

struct Place {
  i64 chunk, element;
  u64 target;
};

__device__ __forceinline__ i64 elements_of(const i64 *row, i64 naxes) {
  i64 count = 1;
  for (i64 a = 0; a < naxes; a++) count *= row[3 + 3 * a];
  return count;
}

// Where an element of a piece, counted in C order, comes from and goes to.
template <typename Index>
__device__ __forceinline__ Place place_in(const i64 *row, i64 naxes, i64 lists,
                                          const i64 *list_source, const i64 *list_target,
                                          Index element) {
  Place place = {row[0], row[1], (u64)row[2]};
  AXES_LOOP
  for (i64 a = naxes - 1; a >= 0; a--) {
    const i64 *axis = row + 3 + 3 * a;
    Index extent = (Index)axis[0];
    i64 k = (i64)(a ? element % extent : element);
    element /= extent;
    if (lists >> a & 1) {
      place.element += list_source[axis[1] + k];
      place.target += (u64)list_target[axis[1] + k];
    } else {
      place.element += k * axis[1];
      place.target += (u64)(k * axis[2]);
    }
  }
  return place;
}

__device__ __forceinline__ Place place_of(const i64 *row, i64 naxes, i64 lists,
                                          const i64 *list_source, const i64 *list_target,
                                          i64 element, i64 count) {
  // Division of 32 bits is several times faster than of 64.
  if (count < 1ll << 31) {
    return place_in<u32>(row, naxes, lists, list_source, list_target, (u32)element);
  }
  return place_in<u64>(row, naxes, lists, list_source, list_target, (u64)element);
}
