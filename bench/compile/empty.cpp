// The floor: what a compiler needs to start.

int main() {}
