package directory

// OpenFileByStep is OpenFile, of which each step of a change asks first.
var OpenFileByStep = openFile
