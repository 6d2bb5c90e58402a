/**
 * A session of the docker CLI over every group of its commands, in an order in which each line stands on those before. `$IMAGE` is busybox in the registry,
 * `$WORK` a directory of the engine's own.
 */

export interface CommandLine {
  readonly line: string;
  /** Why a newer dockerd, or this engine on purpose, prints something else than the one compared with: then only the exit code is compared, or what is told here. */
  readonly why?: string;
  readonly code?: number;
}

const words = 'newer dockerd has other words';
const run = 'docker run --rm';

function other(why: string, line: string, code?: number): CommandLine {
  return { line, why, ...(code === undefined ? {} : { code }) };
}

const images: readonly (string | CommandLine)[] = [
  'docker images',
  'docker image ls --format "{{.Repository}} {{.Tag}} {{.Size}} {{.Containers}}"',
  'docker history --no-trunc $IMAGE',
  'docker pull $IMAGE',
  'docker pull -q $IMAGE',
  'docker pull 127.0.0.1:5000/none',
  'docker pull 127.0.0.1:5000/busybox:none',
  'docker tag $IMAGE mine:1; docker tag ghost mine:1; docker tag mine:1 BAD:1',
  'docker tag mine:1 127.0.0.1:5000/mine:1; docker push -q 127.0.0.1:5000/mine:1',
  'docker push 127.0.0.1:5000/ghost',
  'docker push 127.0.0.1:5000/mine:none',
  'docker push -a 127.0.0.1:5000/ghost',
  'docker image rm 127.0.0.1:5000/mine:1; docker rmi ghost; docker rmi mine:1 ghost',
];

const networks: readonly (string | CommandLine)[] = [
  'docker network ls',
  'docker network create --subnet 172.31.9.0/24 --gateway 172.31.9.1 --label a=b -o com.docker.network.bridge.name=br-cmd one',
  'docker network create one; docker network create --internal two; docker network create -d nosuch three',
  other(words, 'docker network create --subnet 172.31.9.0/25 four; docker network create --subnet bad four'),
  'docker network ls --filter label=a=b --format "{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Internal}} {{.IPv6}}"',
  'docker network inspect ghost',
];

const volumes: readonly (string | CommandLine)[] = [
  'docker volume create --label a=b vol; docker volume create vol',
  'docker volume create -d nosuch vol2; docker volume create "bad name"',
  'docker volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,uid=1000 tmp',
  'docker volume ls; docker volume ls -q --filter label=a=b; docker volume inspect vol ghost --format "{{.Name}} {{.Driver}} {{.Scope}}"',
  'docker volume inspect tmp --format "{{json .Options}} {{json .Labels}}"',
];

const runs: readonly (string | CommandLine)[] = [
  'docker create --name made $IMAGE true; docker create --name made $IMAGE true; docker create --name "bad name" $IMAGE true',
  'docker start made; docker start -a made; docker start ghost made',
  `${run} $IMAGE echo hello; ${run} -i $IMAGE cat < /dev/null; echo in | ${run} -i $IMAGE cat`,
  `${run} $IMAGE sh -c "echo out; echo err >&2; exit 3"`,
  other(words, `${run} $IMAGE nosuch`),
  other(words, `${run} $IMAGE /etc`),
  `${run} -w /no/dir $IMAGE pwd`,
  `${run} -u 1000:1000 $IMAGE id; ${run} -u nosuch $IMAGE id`,
  `${run} --entrypoint sh $IMAGE -c 'echo $0 $@' a b`,
  `${run} -e A=1 -e B --env-file /dev/null -h box $IMAGE env`,
  `${run} --read-only $IMAGE touch /x`,
  `${run} -m 3m $IMAGE true`,
  other(words, `${run} --cpus 1000 $IMAGE true`),
  `${run} --network ghost $IMAGE true`,
  `${run} -v /no/host:/x:bad $IMAGE true; ${run} -v rel/path:/x $IMAGE true`,
  `${run} --mount type=bind,src=/no/such,dst=/x $IMAGE true`,
  `${run} --device /dev/nosuch $IMAGE true`,
  `${run} --cap-add NOSUCH $IMAGE true`,
  `${run} --sysctl kernel.nosuch=1 $IMAGE true`,
  `${run} --security-opt nosuch=1 $IMAGE true`,
  other('drivers that are plugins are not looked for', `${run} --log-driver nosuch $IMAGE true`),
  other(words, `${run} --runtime nosuch $IMAGE true`),
  other(words, `${run} --ip 1.2.3.4 $IMAGE true`),
  `${run} --restart always $IMAGE true`,
  `${run} --network none $IMAGE ls -a /`,
  other(words, `${run} --stop-signal NOSUCH $IMAGE true`),
];

const containers: readonly (string | CommandLine)[] = [
  [
    'docker run -d --name web --network one --ip 172.31.9.9 --network-alias w -p 127.0.0.1:8080:80 -v vol:/data',
    '--label l=1 --restart on-failure:3 $IMAGE sh -c "trap exit TERM; echo started; while :; do sleep 0.1; done"',
  ].join(' '),
  'docker wait made; docker ps --format "{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Labels}} {{.Mounts}} {{.Networks}} {{.LocalVolumes}} {{.Ports}}"',
  'docker ps -a --no-trunc --filter name=made --format "{{.Names}} {{.State}}"',
  other(words, 'docker ps --filter nosuch=1; docker ps --filter status=bad'),
  'docker inspect ghost',
  'docker inspect --type volume vol --format "{{.Name}}"; docker inspect --type network one --format "{{.Name}} {{len .Containers}}"',
  'docker port web; docker port web 80; docker port web 81; docker port made',
  other(words, 'docker top made'),
  'docker top web -o nosuch',
  'docker exec web echo hi; echo in | docker exec -i web cat; docker exec web sh -c "exit 7"; docker exec ghost true',
  other('the code is that of a shell, as newer dockerd gives it', 'docker exec web nosuch', 127),
  other('the code is that of a shell, as newer dockerd gives it', 'docker exec -w /nosuch web true', 127),
  other(words, 'docker exec made true'),
  `docker exec -w /data -e X=y -u 1:1 web sh -c 'pwd; echo $X; id -u'; docker exec -u nosuch web true`,
  'docker exec web touch /data/marked; docker exec -d web true; docker logs web; docker logs ghost; docker logs --since bad web',
  'echo content > $WORK/file; docker cp $WORK/file web:/tmp/; docker cp web:/tmp/file - | tar xO; docker cp web:/tmp/file $WORK/back; cat $WORK/back',
  'docker diff web | sort',
  'docker cp web:/nosuch $WORK; docker cp $WORK/nosuch web:/; docker cp $WORK/file web:/nosuch/dir/; docker cp ghost:/x $WORK',
  'docker stats --no-stream ghost; docker stats --no-stream --format "{{.Name}}" web',
  'docker pause web; docker exec web true; docker unpause web; docker unpause web; docker pause ghost',
  [
    'docker update --memory 64m --memory-swap 64m --cpu-shares 512 --restart no web;',
    'docker inspect --format "{{.HostConfig.Memory}} {{.HostConfig.CpuShares}} {{.HostConfig.RestartPolicy.Name}}" web',
  ].join(' '),
  'docker update --memory 1m web; docker update web',
  other(words, 'docker update --restart bad web'),
  'docker rename web site; docker rename site made; docker rename ghost x; docker rename site web',
  other(words, 'docker kill -s NOSUCH web; docker kill made; docker kill ghost'),
  'docker network connect two web; docker network connect two web; docker network connect ghost web',
  'docker network inspect two --format "{{len .Containers}}"; docker network disconnect two web',
  other(words, 'docker network rm one'),
  'docker network rm ghost; docker network rm bridge; docker volume rm vol; docker volume rm ghost',
  other(words, 'docker rm web'),
  'docker rm ghost; docker rmi $IMAGE',
  'docker stop -t 2 web; docker start web; docker restart -t 1 web; docker stop -t 1 ghost; docker restart ghost',
  'docker stop -t 1 web; docker inspect --format "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.RestartCount}}" web',
];

const archives: readonly (string | CommandLine)[] = [
  `docker commit -m msg -a me -c 'CMD ["x"]' -c 'ENV A=b' made committed:1; docker history --format "{{.CreatedBy}} {{.Comment}} {{.Size}}" committed:1`,
  'docker inspect --format "{{json .Config.Cmd}} {{json .Config.Env}} {{.Author}} {{.Comment}} {{len .RootFS.Layers}}" committed:1',
  `docker commit ghost x; docker commit made BAD; docker commit -c "NOSUCH x" made x`,
  'docker export made | tar t | grep -v "/\\$" | sort; docker export ghost',
  'docker save committed:1 -o $WORK/image.tar; docker rmi committed:1; docker load -i $WORK/image.tar; docker load -q -i $WORK/image.tar',
  'docker export made | docker import -c "CMD x" -m note - imported:1 | sed "s/:.*//"; docker inspect --format "{{json .Config.Cmd}} {{.Comment}}" imported:1',
  other(words, 'docker save ghost; echo bad | docker import - x; echo bad | docker load'),
];

const builds: readonly (string | CommandLine)[] = [
  'mkdir $WORK/context; printf "FROM $IMAGE\\nARG V=1\\nLABEL v=\\$V\\nRUN echo built > /f\\nCOPY x /x\\nCMD cat /f\\n" > $WORK/context/Dockerfile; echo x > $WORK/context/x',
  'DOCKER_BUILDKIT=0 docker build -q -t built $WORK/context 2> /dev/null | sed "s/:.*//"; docker run --rm built; docker history --format "{{.CreatedBy}} {{.Size}}" built',
  other('its output names the line that failed', 'printf "FROM $IMAGE\\nRUN exit 3\\n" | DOCKER_BUILDKIT=0 docker build -'),
  other(words, 'printf "NOSUCH x\\n" | DOCKER_BUILDKIT=0 docker build -'),
  'docker rmi built > /dev/null; docker images built',
];

const engine: readonly (string | CommandLine)[] = [
  'docker version --format "{{.Server.Os}} {{.Server.Arch}} {{.Server.Experimental}}"',
  [
    'docker info',
    '--format "{{.Driver}} {{.LoggingDriver}} {{.CgroupDriver}} {{.CgroupVersion}} {{.OSType}} {{.Architecture}}',
    '{{.NCPU}} {{.MemTotal}} {{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.Swarm.LocalNodeState}}"',
  ].join(' '),
  'docker system df --format "{{.Type}} {{.TotalCount}} {{.Active}}" | grep -v Build',
  'docker system events --since 0 --until 1; docker events --filter nosuch=1 --until 1',
  [
    'docker system events --since $(($(date +%s) - 600)) --until $(date +%s)',
    '--filter type=network --filter network=two --format "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}" | uniq',
  ].join(' '),
  'docker system events --since $(($(date +%s) - 600)) --until $(date +%s) --filter container=made --format "{{.Action}}"',
  'docker container prune -f | tail -1; docker ps -a --format "{{.Names}}"; docker network prune -f | sort; docker network ls --format "{{.Name}}"',
  'docker rmi imported:1 committed:1 | grep Untagged; docker volume rm vol tmp; docker system prune -f | tail -1; docker images --format "{{.Repository}}"',
  'docker login -u u -p p 127.0.0.1:5000; docker logout 127.0.0.1:5000',
  'docker plugin ls; docker plugin inspect ghost; docker plugin rm ghost; docker plugin enable ghost',
  'docker swarm leave; docker node ls; docker service ls; docker secret ls; docker config ls; docker stack ls; docker swarm update; docker swarm unlock',
  'docker swarm join-token worker; docker service create $IMAGE; docker node inspect self',
  'docker context create other --docker host=$DOCKER_HOST; docker --context other ps -q; docker context rm other',
];

export const commandLines: readonly CommandLine[] = [images, networks, volumes, runs, containers, archives, builds, engine]
  .flat()
  .map((line) => (typeof line === 'string' ? { line } : line));
