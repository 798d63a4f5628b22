#pragma once

#include <bit>
#include <cstdint>
#include <utility>
#include <vector>

namespace fathom::data {

// Two neighbouring tokens as one key. Ids are not negative, so that no pair has all bits set.
constexpr std::uint64_t pair_key(std::int32_t left, std::int32_t right) noexcept {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

// Hash table from pairs of tokens to values: open addressing with linear probing, entries are never
// removed. std::unordered_map is several times slower here, and these look-ups are most of the time
// of an encoding.
template <class Value>
class PairTable {
 public:
  explicit PairTable(std::size_t expected_size = 0) { allocate(expected_size); }

  std::size_t size() const noexcept { return size_; }

  // nullptr if absent. Stays valid until the next insertion.
  const Value* find(std::uint64_t key) const noexcept {
    const Slot& slot = slots_[slot_of(key)];
    return slot.key == key ? &slot.value : nullptr;
  }
  Value* find(std::uint64_t key) noexcept {
    return const_cast<Value*>(std::as_const(*this).find(key));
  }
  // The value of `key`, value-initialised first if it is absent.
  Value& operator[](std::uint64_t key) {
    std::size_t slot = slot_of(key);
    if (slots_[slot].key != key) {
      if (2 * (size_ + 1) > slots_.size()) {
        grow();
        slot = slot_of(key);
      }
      slots_[slot].key = key;
      ++size_;
    }
    return slots_[slot].value;
  }
  // visit(key, value) for each entry, in no order that means anything.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      if (slot.key != kEmpty) {
        visit(slot.key, slot.value);
      }
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kEmpty;
    Value value{};
  };

  void allocate(std::size_t expected_size) {
    slots_.assign(std::bit_ceil(2 * expected_size + 16), Slot{});
    shift_ = 64 - std::countr_zero(slots_.size());
  }
  // The slot of `key`, or the empty one where it belongs. Multiplicative hashing by 2^64 over the
  // golden ratio.
  std::size_t slot_of(std::uint64_t key) const noexcept {
    std::size_t slot = ((key ^ key >> 29) * 0x9e3779b97f4a7c15ULL) >> shift_;
    while (slots_[slot].key != key && slots_[slot].key != kEmpty) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
  }
  void grow() {
    std::vector<Slot> old = std::move(slots_);
    allocate(old.size());
    for (Slot& slot : old) {
      if (slot.key != kEmpty) {
        slots_[slot_of(slot.key)] = std::move(slot);
      }
    }
  }

  std::vector<Slot> slots_;
  int shift_ = 0;
  std::size_t size_ = 0;
};

}  // namespace fathom::data
