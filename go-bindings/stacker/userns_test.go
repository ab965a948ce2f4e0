package stacker_test

func inUserNamespace() bool { return false }
