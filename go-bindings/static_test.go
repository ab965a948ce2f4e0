//go:build puzzlefs_static

package puzzlefs_test

import (
	"debug/elf"
	"testing"
)

// TestStatic looks at the program that it is in: nothing is loaded when it starts.
func TestStatic(t *testing.T) {
	program := must(elf.Open("/proc/self/exe"))
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the program asks for a loader")
		}
	}
	if libraries := must(program.ImportedLibraries()); len(libraries) != 0 {
		t.Errorf("the program asks for %v", libraries)
	}
}
