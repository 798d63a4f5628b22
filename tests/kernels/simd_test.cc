#include "kernels/cpu/simd.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "tests/support/catch.h"

namespace fathom::kernels::simd {
namespace {

using Lanes = std::array<float, kLanes>;

// Distance from `want` in units of the last place of a float32 of its size.
double ulps(float found, double want) {
  if (std::isnan(want) || std::isnan(found)) {
    return std::isnan(want) && std::isnan(found) ? 0 : 1e9;
  }
  const auto rounded = static_cast<float>(want);
  if (std::isinf(rounded) || std::isinf(found)) {
    return rounded == found ? 0 : 1e9;
  }
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::abs(static_cast<double>(found) - want) /
         std::ldexp(1.0, std::max(exponent - 24, -149));
}

// The worst error over every 10,007th bit pattern, NaN and infinities included.
template <class Function, class Reference>
double worst_ulps(Function function, Reference reference) {
  double worst = 0;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 10007 * kLanes) {
    Lanes x{};
    for (std::size_t i = 0; i < kLanes; ++i) {
      x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(bits + 10007 * i));
    }
    Lanes y{};
    store(function(load(x.data())), y.data());
    for (std::size_t i = 0; i < kLanes; ++i) {
      worst = std::max(worst, ulps(y[i], reference(static_cast<double>(x[i]))));
    }
  }
  return worst;
}

TEST_CASE("exp, log and sigmoid are as accurate as they say, over all floats") {
  CHECK(worst_ulps([](const Floats& x) { return exp(x); }, [](double x) { return std::exp(x); }) <
        1.01);
  CHECK(worst_ulps([](const Floats& x) { return log(x); }, [](double x) { return std::log(x); }) <
        1.0);
  CHECK(worst_ulps([](const Floats& x) { return sigmoid(x); },
                   [](double x) { return x < -87.6831 ? 0.0 : 1 / (1 + std::exp(-x)); }) < 2.4);
  CHECK(worst_ulps([](const Floats& x) { return exp_or_zero(min(broadcast(0.0F), x)); },
                   [](double x) {
                     return x < -87.6831 ? 0.0 : std::exp(std::isnan(x) ? x : std::min(x, 0.0));
                   }) < 1.01);
}

template <class Function>
float of_one(Function function, float x) {
  Lanes y{};
  store(function(broadcast(x)), y.data());
  return y[0];
}

TEST_CASE("exp, log and sigmoid at their ends") {
  const auto exp_of = [](float x) { return of_one([](const Floats& v) { return exp(v); }, x); };
  const auto sigmoid_of = [](float x) {
    return of_one([](const Floats& v) { return sigmoid(v); }, x);
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(exp_of(-kInfinity) == 0.0F);
  CHECK(exp_of(kInfinity) == kInfinity);
  CHECK(exp_of(0.0F) == 1.0F);
  CHECK(std::isnan(exp_of(std::nanf(""))));
  CHECK(log_scalar(0.0F) == -kInfinity);
  CHECK(log_scalar(1.0F) == 0.0F);
  CHECK(log_scalar(kInfinity) == kInfinity);
  CHECK(std::isnan(log_scalar(-1.0F)));
  CHECK(sigmoid_of(-kInfinity) == 0.0F);
  CHECK(sigmoid_of(kInfinity) == 1.0F);
  CHECK(sigmoid_of(0.0F) == 0.5F);
}

TEST_CASE("A part of a block touches its own elements alone and computes what a whole block does") {
  Lanes x{};
  for (std::size_t i = 0; i < kLanes; ++i) {
    x[i] = static_cast<float>(i) - 7.3F;
  }
  Lanes whole{};
  store(exp(load(x.data())), whole.data());
  for (int count = 1; count < kLanes; ++count) {
    // Memory that ends where the part does: reading on would be found by the address sanitizer.
    const std::vector<float> from(x.begin(), x.begin() + count);
    Lanes to{};
    to.fill(-1.0F);
    store(exp(load(from.data(), PartBlock{count})), to.data(), PartBlock{count});
    Lanes loaded{};
    store(load(from.data(), PartBlock{count}), loaded.data());
    for (int i = 0; i < kLanes; ++i) {
      const auto at = static_cast<std::size_t>(i);
      CHECK(to[at] == (i < count ? whole[at] : -1.0F));
      CHECK(loaded[at] == (i < count ? x[at] : 0.0F));
    }
  }
}

TEST_CASE("Blocks of sixteen cover a range once, the last one with what is left") {
  for (std::int64_t size = 0; size < 50; ++size) {
    std::int64_t next = 0;
    for_each_block(size, [&](std::int64_t first, auto extent) {
      CHECK(first == next);
      if constexpr (std::is_same_v<decltype(extent), PartBlock>) {
        next += extent.count;
      } else {
        next += kLanes;
      }
    });
    CHECK(next == size);
  }
}

TEST_CASE("A sum over the lanes is the halving tree") {
  Lanes x{};
  for (std::size_t i = 0; i < kLanes; ++i) {
    x[i] = std::ldexp(1.0F + static_cast<float>(i * i % 7), static_cast<int>(i * 5 % 23));
  }
  Lanes tree = x;
  for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) {
      tree[i] += tree[i + half];
    }
  }
  CHECK(sum(load(x.data())) == tree[0]);
  CHECK(max(load(x.data())) == *std::max_element(x.begin(), x.end()));
}

TEST_CASE("Multiply-adds are fused, and nothing else is") {
  const float a = 1.0F + std::ldexp(1.0F, -12);
  Lanes fused{};
  store(fma(broadcast(a), broadcast(a), broadcast(-1.0F)), fused.data());
  CHECK(fused[0] == std::fma(a, a, -1.0F));
  store(fnma(broadcast(a), broadcast(a), broadcast(1.0F)), fused.data());
  CHECK(fused[15] == std::fma(-a, a, 1.0F));
  Lanes apart{};
  store(broadcast(a) * broadcast(a) + broadcast(-1.0F), apart.data());
  const volatile float product = a * a;
  CHECK(apart[0] == product - 1.0F);
  CHECK(apart[0] != std::fma(a, a, -1.0F));
}

}  // namespace
}  // namespace fathom::kernels::simd
