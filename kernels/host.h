// Runs kernels on the host, for tests: one OS thread, thread blocks one after another.
//
// Threads of a block are a plain loop where the kernel has no barriers (EXPORT), and otherwise
// (EXPORT_SYNC) fibers, which stop at barriers and warp exchanges until all others have come there. A
// barrier that part of a block never reaches is an error here, not a hang. Between two of them threads run
// in an order that changes each time, and so do blocks: what relies on an order that a GPU does not keep
// goes wrong here, too, soon if not at once. What is not modelled: threads that run at the same time,
// alignment faults (UBSan finds them), speed.
#pragma once

#undef _FORTIFY_SOURCE  // it would forbid jumps to other stacks

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

namespace host {

constexpr unsigned LANES = 32;  // of a warp
constexpr unsigned MOST_THREADS = 1024;
constexpr size_t STACK_NBYTES = 64 << 10;

enum State { RUNNING, AT_BARRIER, AT_WARP, DONE };

// Where a thread of the machine goes on: jumps take a tenth of the time of `swapcontext`, which asks the
// system for the signal mask. AddressSanitizer would take jumps between stacks for an error.
struct Place {
  ucontext_t context;
#ifndef __SANITIZE_ADDRESS__
  jmp_buf jump;
#endif
  bool started = false;
};

inline void leave_for(Place &from, Place &to) {
#ifndef __SANITIZE_ADDRESS__
  if (_setjmp(from.jump)) return;
  from.started = true;
  if (to.started) _longjmp(to.jump, 1);
  setcontext(&to.context);
#else
  swapcontext(&from.context, &to.context);
#endif
}

struct Fiber {
  Place place;
  std::vector<char> stack;
  State state;
  unsigned mask;
};

struct Machine {
  dim3 thread, block, block_size, grid_size;
  std::vector<Fiber> fibers;
  Place main;
  int current = -1;
  unsigned long long chance = 1;  // makes the order
  const char *error = nullptr;
  void (*body)(void *) = nullptr;
  void *argument = nullptr;
  unsigned long long exchange[MOST_THREADS];  // a slot a thread, for warp exchanges
};
inline Machine machine;

// Stop this thread until the others have come here too.
inline void stop(State why, unsigned mask) {
  Machine &m = machine;
  if (m.current < 0) {
    m.error = "a barrier in a kernel that was exported without SYNC";
    return;
  }
  int me = m.current;
  m.fibers[me].state = why;
  m.fibers[me].mask = mask;
  leave_for(m.fibers[me].place, m.main);
}

inline void enter_fiber() {
  Machine &m = machine;
  m.body(m.argument);
  m.fibers[m.current].state = DONE;
  leave_for(m.fibers[m.current].place, m.main);
}

// Let the warps go on whose waiting threads are all that were named; whether there was one.
inline bool release_warps(unsigned count) {
  Machine &m = machine;
  bool released = false;
  for (unsigned first = 0; first < count; first += LANES) {
    unsigned waiting = 0, absent = 0, named = 0;
    for (unsigned lane = 0; lane < LANES && first + lane < count; lane++) {
      Fiber &fiber = m.fibers[first + lane];
      if (fiber.state == AT_WARP) {
        waiting |= 1u << lane;
        named |= fiber.mask;
      } else if (fiber.state != DONE) {
        absent |= 1u << lane;
      }
    }
    if (!waiting || (named & absent)) continue;
    for (unsigned lane = 0; lane < LANES && first + lane < count; lane++) {
      if (waiting >> lane & 1) m.fibers[first + lane].state = RUNNING;
    }
    released = true;
  }
  return released;
}

// An order of `count` threads or blocks, another one each time: the k-th is order(k).
struct Order {
  unsigned count, start, step;
  unsigned operator()(unsigned k) const {
    return (unsigned)((start + (unsigned long long)k * step) % count);
  }
};

inline Order any_order(unsigned count) {
  machine.chance = machine.chance * 6364136223846793005ull + 1442695040888963407ull;
  unsigned bits = (unsigned)(machine.chance >> 33), step = count - 1;  // backwards
  if (bits & 3) step = bits % count | 1;
  if (std::gcd(step, count) != 1) step = bits & 4 ? 1 : count - 1;
  return {count, bits / 8 % count, step};
}

inline bool run_block_as_fibers() {
  Machine &m = machine;
  unsigned count = m.block_size.x;
  if (m.fibers.size() < count) m.fibers.resize(count);
  for (unsigned i = 0; i < count; i++) {
    Fiber &fiber = m.fibers[i];
    if (fiber.stack.empty()) fiber.stack.resize(STACK_NBYTES);
    ucontext_t &context = fiber.place.context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack.data();
    context.uc_stack.ss_size = fiber.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, enter_fiber, 0);
    fiber.place.started = false;
    fiber.state = RUNNING;
  }
  for (;;) {
    bool ran = false;
    Order order = any_order(count);
    for (unsigned k = 0; k < count; k++) {
      unsigned i = order(k);
      if (m.fibers[i].state != RUNNING) continue;
      ran = true;
      m.current = (int)i;
      m.thread = {i, 0, 0};
      leave_for(m.main, m.fibers[i].place);
      m.current = -1;
      if (m.error) return false;
    }
    if (ran || release_warps(count)) continue;
    unsigned done = 0, waiting = 0;
    for (unsigned i = 0; i < count; i++) {
      done += m.fibers[i].state == DONE;
      waiting += m.fibers[i].state == AT_BARRIER;
    }
    if (done == count) return true;
    if (done + waiting < count || done) {
      m.error = "a barrier where part of the block waits and the rest never comes";
      return false;
    }
    for (unsigned i = 0; i < count; i++) m.fibers[i].state = RUNNING;
  }
}

template <class... Parameters, size_t... I>
inline void call(void (*kernel)(Parameters...), const long long *arguments,
                 std::index_sequence<I...>) {
  static_assert(((sizeof(Parameters) == sizeof(long long)) && ...), "parameters have 64 bits");
  kernel(__builtin_bit_cast(Parameters, arguments[I])...);
}

template <class... Parameters>
struct Call {
  void (*kernel)(Parameters...);
  const long long *arguments;
  static void run(void *self) {
    auto *c = static_cast<Call *>(self);
    call(c->kernel, c->arguments, std::index_sequence_for<Parameters...>{});
  }
};

template <class... Parameters>
inline const char *launch(void (*kernel)(Parameters...), bool sync, unsigned blocks,
                          unsigned threads, const long long *arguments) {
  Machine &m = machine;
  Call<Parameters...> c{kernel, arguments};
  m.body = Call<Parameters...>::run;
  m.argument = &c;
  m.grid_size = {blocks, 1, 1};
  m.block_size = {threads, 1, 1};
  m.error = nullptr;
  if (threads > MOST_THREADS) return "too many threads in a block";
  if (!blocks) return nullptr;
  Order order = any_order(blocks);
  for (unsigned k = 0; k < blocks; k++) {
    m.block = {order(k), 0, 0};
    if (sync) {
      if (!run_block_as_fibers()) return m.error;
      continue;
    }
    Order turns = any_order(threads);
    for (unsigned t = 0; t < threads; t++) {
      m.thread.x = turns(t);
      call(kernel, arguments, std::index_sequence_for<Parameters...>{});
    }
    if (m.error) return m.error;
  }
  return nullptr;
}

template <class... Parameters>
constexpr int parameters(void (*)(Parameters...)) {
  return sizeof...(Parameters);
}

inline unsigned lane() { return machine.thread.x % LANES; }

// Give a value to the warp, and take that of another lane (one's own where there is none).
template <class T>
inline T take_from(unsigned mask, T value, int lane_from) {
  Machine &m = machine;
  unsigned me = m.thread.x, first = me - me % LANES;
  unsigned long long bits = 0;
  memcpy(&bits, &value, sizeof value);
  m.exchange[me] = bits;
  stop(AT_WARP, mask);
  unsigned from = lane_from < 0 || lane_from >= (int)LANES ? me : first + (unsigned)lane_from;
  T taken;
  memcpy(&taken, &m.exchange[from], sizeof taken);
  stop(AT_WARP, mask);
  return taken;
}

}  // namespace host

#define threadIdx (host::machine.thread)
#define blockIdx (host::machine.block)
#define blockDim (host::machine.block_size)
#define gridDim (host::machine.grid_size)

#define __syncthreads() host::stop(host::AT_BARRIER, 0)
inline void __syncwarp(unsigned mask = ~0u) { host::stop(host::AT_WARP, mask); }
template <class T>
inline T __shfl_sync(unsigned mask, T value, int from) {
  return host::take_from(mask, value, from);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by) {
  return host::take_from(mask, value, (int)host::lane() - (int)by);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by) {
  return host::take_from(mask, value, (int)(host::lane() + by));
}

template <class T>
inline T atomicCAS(T *place, T expected, T value) {
  T old = *place;
  if (old == expected) *place = value;
  return old;
}
template <class T>
inline T atomicAdd(T *place, T value) {
  T old = *place;
  *place = old + value;
  return old;
}

template <class T>
inline T __ldg(const T *place) {
  return *place;
}
template <class T>
inline void __stcg(T *place, T value) {
  *place = value;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)((unsigned long long)a * b >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (by & 31));
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  unsigned long long bytes = (unsigned long long)high << 32 | low;
  unsigned out = 0;
  for (int i = 0; i < 4; i++) {
    out |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  }
  return out;
}
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
template <class To, class From>
inline To host_bits(From from) {
  return __builtin_bit_cast(To, from);
}
inline long long __double_as_longlong(double x) { return host_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return host_bits<double>(x); }
inline unsigned __float_as_uint(float x) { return host_bits<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return host_bits<float>(x); }

#define EXPORT_AS(kernel, sync)                                                              \
  extern "C" const char *kernel##_on_host(unsigned blocks, unsigned threads,                 \
                                          const long long *arguments) {                      \
    return host::launch(kernel, sync, blocks, threads, arguments);                           \
  }                                                                                          \
  extern "C" int kernel##_parameters() { return host::parameters(kernel); }
#define EXPORT(kernel) EXPORT_AS(kernel, false)
#define EXPORT_SYNC(kernel) EXPORT_AS(kernel, true)
