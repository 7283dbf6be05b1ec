// The fill value to the places of chunks that are not stored.
//
// pieces: [npieces, 3 + 3 * naxes] rows of pieces.cuh, of which the source parts mean nothing;
// value: `item` bytes. Launch: THREADS threads, ceil(elements / SCATTER_TILE) blocks a piece.
// Moves: item bytes written for each item bytes out.
#include "numbers.cuh"
#include "pieces.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
fill(const i64 *pieces, const i64 *first_block, i64 npieces, i64 naxes, i64 lists,
     const i64 *list_target, const u8 *value, i64 item) {
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * naxes);
  i64 count = elements_of(row, naxes);
  i64 first = (blockIdx.x - first_block[piece]) * SCATTER_TILE;
  i64 end = first + SCATTER_TILE < count ? first + SCATTER_TILE : count;
  bool is_word = item == 1 || item == 2 || item == 4 || item == 8;
  u64 word = is_word ? load_word(value, item, false) : 0;
  for (i64 i = first + threadIdx.x; i < end; i += THREADS) {
    // The sources of lists are looked up in the same table, to no end.
    Place place = place_of(row, naxes, lists, list_target, list_target, i, count);
    u8 *target = writable_at(place.target);
    if (is_word) {
      store_word(target, word, item, false);
    } else {
      for (i64 k = 0; k < item; k++) target[k] = value[k];
    }
  }
}
EXPORT(fill)
