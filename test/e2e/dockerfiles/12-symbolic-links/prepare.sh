mkdir -p tree links && echo text > file.txt && echo inner > tree/inner && ln -s inner tree/beside
ln -s file links/to-file && echo linked > links/file && ln -s /etc/passwd links/outside && ln -s .. links/up && ln -s . links/self
