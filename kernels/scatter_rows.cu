// Pieces whose rows are runs of bytes on both sides, copied as they are.
//
// pieces, first_block, lists: as in scatter.cu, but everything counts bytes, and the last axis is a run:
// its extent are bytes that lie together on both sides. chunk_address, chunk_nbytes: [chunks].
// Launch: THREADS threads; rows.cuh says what a block does.
// Moves: a byte read and a byte written for each byte out. Whole slots whose source is aligned like
// them are vectors, and a thread has AT_ONCE of them under way; others are five words of 4 bytes, shifted
// into place. Words that would begin before the chunk or end behind it are read byte by byte.
#include "rows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_AT_ONCE)
scatter_rows(const i64 *__restrict__ pieces, const i64 *__restrict__ first_block, i64 npieces,
             i64 naxes, i64 lists, const i64 *__restrict__ list_source,
             const i64 *__restrict__ list_target, const u64 *__restrict__ chunk_address,
             const i64 *__restrict__ chunk_nbytes) {
  __shared__ Line lines[ROWS_TILE];
  i64 piece = find_item(first_block, npieces, blockIdx.x);
  const i64 *row = pieces + piece * (3 + 3 * naxes);
  i64 outer = naxes - 1, run = row[3 + 3 * outer];
  Tile tile = find_lines(lines, row, outer, run, lists, list_source, list_target,
                         blockIdx.x - first_block[piece]);
  u64 chunk = chunk_address[row[0]], chunk_end = chunk + (u64)chunk_nbytes[row[0]];
  copy_slots(chunk, chunk_end, [&](u32 k) {
    return slot_of(lines, tile, run, threadIdx.x + k * THREADS);
  });
}
EXPORT_SYNC(scatter_rows)
