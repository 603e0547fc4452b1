// What Boost.Asio's header alone costs.

#include <boost/asio.hpp>

int main() {}
