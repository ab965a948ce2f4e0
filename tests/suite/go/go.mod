module github.com/project-machine/libpuzzlefs/tests/suite/go

go 1.25.0

require github.com/project-machine/libpuzzlefs/go-bindings v0.0.0

replace github.com/project-machine/libpuzzlefs/go-bindings => ../../../go-bindings
