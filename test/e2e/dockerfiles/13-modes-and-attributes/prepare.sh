mkdir -p modes/sticky modes/closed && for mode in 0400 0644 0755 0007; do echo $mode > modes/$mode && chmod $mode modes/$mode; done
echo x > modes/plain && chmod 1777 modes/sticky && chmod 0700 modes/closed && chown 1000:1000 modes/plain
cp /bin/true capable && setcap cap_net_bind_service+ep capable && cp /bin/true setuid && chmod 4755 setuid && cp /bin/true setgid && chmod 2755 setgid
touch -d 2020-02-02 capable setuid setgid && tar cf special.tar --xattrs --xattrs-include=security.capability capable setuid setgid && rm capable setuid setgid
