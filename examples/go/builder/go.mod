module github.com/project-machine/libpuzzlefs/examples/go/builder

go 1.25.0

require github.com/project-machine/libpuzzlefs/go-bindings v0.0.0

// A program outside of this repository needs no such line.
replace github.com/project-machine/libpuzzlefs/go-bindings => ../../../go-bindings
