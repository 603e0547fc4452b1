// What coil's header alone costs.

#include <coil/coil.hpp>

int main() {}
