#include "core/rng.h"

#include <cmath>
#include <cstddef>

namespace fathom {
namespace {

__extension__ using UInt128 = unsigned __int128;

std::uint64_t fnv1a(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const char letter : text) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3U;
  }
  return hash;
}

std::uint32_t low_word(std::uint64_t value) noexcept { return static_cast<std::uint32_t>(value); }
std::uint32_t high_word(std::uint64_t value) noexcept {
  return static_cast<std::uint32_t>(value >> 32);
}

// Coefficients of a polynomial, from x^0 up.
using Polynomial = std::array<double, 8>;

double evaluate(const Polynomial& coefficients, double x) noexcept {
  double sum = coefficients.back();
  for (std::size_t i = coefficients.size() - 1; i-- > 0;) {
    sum = sum * x + coefficients[i];
  }
  return sum;
}

// Algorithm AS 241, PPND16: the inverse of the normal distribution function to about 1 part in
// 10^16. Wichura, Applied Statistics 37 (1988), 477-484.
constexpr Polynomial kCentralNumerator{3.3871328727963666080e0, 1.3314166789178437745e2,
                                       1.9715909503065514427e3, 1.3731693765509461125e4,
                                       4.5921953931549871457e4, 6.7265770927008700853e4,
                                       3.3430575583588128105e4, 2.5090809287301226727e3};
constexpr Polynomial kCentralDenominator{1.0,
                                         4.2313330701600911252e1,
                                         6.8718700749205790830e2,
                                         5.3941960214247511077e3,
                                         2.1213794301586595867e4,
                                         3.9307895800092710610e4,
                                         2.8729085735721942674e4,
                                         5.2264952788528545610e3};
constexpr Polynomial kMiddleNumerator{1.42343711074968357734e0,  4.63033784615654529590e0,
                                      5.76949722146069140550e0,  3.64784832476320460504e0,
                                      1.27045825245236838258e0,  2.41780725177450611770e-1,
                                      2.27238449892691845833e-2, 7.74545014278341407640e-4};
constexpr Polynomial kMiddleDenominator{1.0,
                                        2.05319162663775882187e0,
                                        1.67638483018380384940e0,
                                        6.89767334985100004550e-1,
                                        1.48103976427480074590e-1,
                                        1.51986665636164571966e-2,
                                        5.47593808499534494600e-4,
                                        1.05075007164441684324e-9};
constexpr Polynomial kTailNumerator{6.65790464350110377720e0,  5.46378491116411436990e0,
                                    1.78482653991729133580e0,  2.96560571828504891230e-1,
                                    2.65321895265761230930e-2, 1.24266094738807843860e-3,
                                    2.71155556874348757815e-5, 2.01033439929228813265e-7};
constexpr Polynomial kTailDenominator{1.0,
                                      5.99832206555887937690e-1,
                                      1.36929880922735805310e-1,
                                      1.48753612908506148525e-2,
                                      7.86869131145613259100e-4,
                                      1.84631831751005468180e-5,
                                      1.42151175831644588870e-7,
                                      2.04426310338993978564e-15};

double inverse_normal_distribution(double p) noexcept {
  const double q = p - 0.5;
  if (std::abs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * evaluate(kCentralNumerator, r) / evaluate(kCentralDenominator, r);
  }
  const double r = std::sqrt(-std::log(q < 0 ? p : 1.0 - p));
  const double magnitude =
      r <= 5.0 ? evaluate(kMiddleNumerator, r - 1.6) / evaluate(kMiddleDenominator, r - 1.6)
               : evaluate(kTailNumerator, r - 5.0) / evaluate(kTailDenominator, r - 5.0);
  return q < 0 ? -magnitude : magnitude;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 2> key,
                                    std::array<std::uint32_t, 4> counter) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {high_word(b) ^ counter[1] ^ key[0], low_word(b), high_word(a) ^ counter[3] ^ key[1],
               low_word(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

RandomSource::RandomSource(std::uint64_t seed, std::string_view purpose) noexcept {
  const std::uint64_t hash = fnv1a(purpose);
  const auto mixed =
      philox({low_word(hash), high_word(hash)}, {low_word(seed), high_word(seed), 0, 0});
  key_ = {mixed[0], mixed[1]};
}

std::uint64_t RandomSource::bits(std::uint64_t index) const noexcept {
  const auto words = philox(key_, {low_word(index), high_word(index), 0, 0});
  return std::uint64_t{words[1]} << 32 | words[0];
}

double RandomSource::uniform(std::uint64_t index) const noexcept {
  // An odd multiple of 2^-53, which a double holds exactly: neither 0 nor 1 can come out.
  return (static_cast<double>(bits(index) >> 12) + 0.5) * 0x1p-52;
}

float RandomSource::normal(std::uint64_t index) const noexcept {
  return static_cast<float>(inverse_normal_distribution(uniform(index)));
}

std::uint64_t RandomSource::below(std::uint64_t index, std::uint64_t bound) const noexcept {
  return static_cast<std::uint64_t>(static_cast<UInt128>(bits(index)) * bound >> 64);
}

}  // namespace fathom
