#pragma once

// What coil asks of a range, without <ranges>.

#include <concepts>
#include <cstddef>
#include <iterator>
#include <utility>

namespace coil::detail {

namespace range_access {

using std::begin;
using std::end;
using std::size;

template <class R>
concept Range = requires(R& range) {
    { begin(range) } -> std::input_or_output_iterator;
    begin(range) != end(range);
};
template <class R>
concept Sized = requires(R& range) {
    { size(range) } -> std::convertible_to<std::size_t>;
};
template <class R>
using IteratorOf = decltype(begin(std::declval<R&>()));

template <class R>
std::size_t size_of(R& range) {
    return static_cast<std::size_t>(size(range));
}

}  // namespace range_access

/// `for (auto&& item : range)` works, as often as the range allows.
template <class R>
concept Range = range_access::Range<R>;
/// It also knows its size.
template <class R>
concept SizedRange = Range<R> && range_access::Sized<R>;

template <Range R>
using RangeReference = std::iter_reference_t<range_access::IteratorOf<R>>;
template <Range R>
using RangeValue = std::iter_value_t<range_access::IteratorOf<R>>;
using range_access::size_of;

}  // namespace coil::detail
