# bash completion of rl; made by `rl completion bash`, do not edit

# options: NAME for a flag, NAME=KIND for one with a value; arguments: a kind each, * repeats, + begins a command of its own.
_rl_declared() {
    case $1 in
        '')
            options='--root=directory --runroot=directory --storage-driver=overlay,fuse-overlayfs,fuse --log-level=debug,info,warn,error -D --debug -v --version --help' arguments='' words='run create start exec ps logs stop kill rm wait inspect pull images rmi tag import load save login logout info version doctor unshare completion container image system' ;;
        'container')
            options='--help' arguments='' words='run create start exec ls list ps logs stop kill rm remove wait inspect' ;;
        'image')
            options='--help' arguments='' words='pull ls list rm remove tag import load save inspect' ;;
        'system')
            options='--help' arguments='' words='info doctor' ;;
        'run'|'container run')
            options='--add-host= --annotation= --cap-add= --cap-drop= --cgroupns= --cidfile=file --detach-keys= --device=file --dns= --dns-option= --dns-search= --entrypoint= -e= --env= --env-file=file --expose= --group-add= -h= --hostname= --init -i --interactive --ipc= -l= --label= --label-file=file --log-driver= --log-opt= --mount= --name= --network=network --net=network --oom-score-adj= --pid= --pidfile=file --platform= --privileged -p= --publish= -P --publish-all --pull=missing,always,never,newer -q --quiet --read-only --rm --security-opt= --shm-size= --sig-proxy --stop-signal= --stop-timeout= --sysctl= --tls-verify --tmpfs= -t --tty --ulimit= --umask= -u= --user= --userns= --uts= -v=directory --volume=directory -w= --workdir= -d --detach --help' arguments='image +-' words='' ;;
        'create'|'container create')
            options='--add-host= --annotation= --cap-add= --cap-drop= --cgroupns= --cidfile=file --detach-keys= --device=file --dns= --dns-option= --dns-search= --entrypoint= -e= --env= --env-file=file --expose= --group-add= -h= --hostname= --init -i --interactive --ipc= -l= --label= --label-file=file --log-driver= --log-opt= --mount= --name= --network=network --net=network --oom-score-adj= --pid= --pidfile=file --platform= --privileged -p= --publish= -P --publish-all --pull=missing,always,never,newer -q --quiet --read-only --rm --security-opt= --shm-size= --sig-proxy --stop-signal= --stop-timeout= --sysctl= --tls-verify --tmpfs= -t --tty --ulimit= --umask= -u= --user= --userns= --uts= -v=directory --volume=directory -w= --workdir= --help' arguments='image +-' words='' ;;
        'start'|'container start')
            options='-a --attach -i --interactive --detach-keys= --sig-proxy --help' arguments='*container' words='' ;;
        'exec'|'container exec')
            options='-d --detach --detach-keys= -e= --env= --env-file=file -i --interactive --privileged -t --tty -u= --user= -w= --workdir= --help' arguments='running +-' words='' ;;
        'ps'|'container ls'|'container list'|'container ps')
            options='-a --all -f= --filter= --format= -n= --last= -l --latest --no-trunc -q --quiet --help' arguments='' words='' ;;
        'logs'|'container logs')
            options='-f --follow --since= -n= --tail= -t --timestamps --until= --help' arguments='container' words='' ;;
        'stop'|'container stop')
            options='-a --all -i --ignore -t= --time= --timeout= --help' arguments='*running' words='' ;;
        'kill'|'container kill')
            options='-a --all -s= --signal= --help' arguments='*running' words='' ;;
        'rm'|'container rm'|'container remove')
            options='-a --all -f --force -i --ignore -t= --time= -v --volumes --help' arguments='*container' words='' ;;
        'wait'|'container wait')
            options='--help' arguments='*container' words='' ;;
        'container inspect')
            options='-f= --format= --help' arguments='*container' words='' ;;
        'inspect')
            options='-f= --format= --type=container,image,all --help' arguments='*container' words='' ;;
        'pull'|'image pull')
            options='--platform= -q --quiet --tls-verify --help' arguments='*image' words='' ;;
        'images'|'image ls'|'image list')
            options='-a --all --digests -f= --filter= --format= --no-trunc -q --quiet --help' arguments='image' words='' ;;
        'rmi'|'image rm'|'image remove')
            options='-a --all -f --force -i --ignore --help' arguments='*image' words='' ;;
        'tag'|'image tag')
            options='--help' arguments='image *image' words='' ;;
        'import'|'image import')
            options='-c= --change= -m= --message= --platform= -q --quiet --help' arguments='file image' words='' ;;
        'load'|'image load')
            options='-i=file --input=file -q --quiet --help' arguments='' words='' ;;
        'save'|'image save')
            options='--format=oci-archive,oci-dir -o=file --output=file -q --quiet --help' arguments='*image' words='' ;;
        'image inspect')
            options='-f= --format= --help' arguments='*image' words='' ;;
        'login')
            options='-u= --username= -p= --password= --password-stdin --tls-verify --help' arguments='-' words='' ;;
        'logout')
            options='--help' arguments='-' words='' ;;
        'info'|'system info')
            options='-f= --format= --help' arguments='' words='' ;;
        'version')
            options='-f= --format= --help' arguments='' words='' ;;
        'doctor'|'system doctor')
            options='--format=text,json --help' arguments='' words='' ;;
        'unshare')
            options='--help' arguments='+-' words='' ;;
        'completion')
            options='--help' arguments='-' words='' ;;
        *) options='' arguments='' words='' ;;
    esac
}

_rl_list() {
    case $1 in
        container) rl ps -a --format '{{.Names}}' 2>/dev/null ;;
        running) rl ps --format '{{.Names}}' 2>/dev/null ;;
        image) rl images --format '{{.Repository}}:{{.Tag}}' 2>/dev/null ;;
        network) printf '%s\n' slirp4netns none host container: 2>/dev/null ;;
        *,*) printf '%s\n' "${1//,/$'\n'}" ;;
    esac
}

_rl_offer() { # KIND WORD
    local IFS=$'\n'
    case $1 in
        file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$2")) ;;
        directory) compopt -o filenames; COMPREPLY=($(compgen -d -- "$2")) ;;
        '' | -) COMPREPLY=() ;;
        *) COMPREPLY=($(compgen -W "$(_rl_list "$1")" -- "$2")) ;;
    esac
}

_rl() {
    local command='' options arguments words word kind='' place=0 skip='' ended='' i
    local line=${COMP_LINE:0:COMP_POINT}
    local -a typed
    read -ra typed <<<"$line"
    [[ $line == *[[:space:]] ]] && typed+=('')
    local current=${typed[${#typed[@]} - 1]}
    COMPREPLY=()
    _rl_declared ''
    for ((i = 1; i < ${#typed[@]} - 1; i++)); do
        word=${typed[i]}
        if [[ $skip ]]; then
            skip=''
        elif [[ $word == -* && ! $ended ]]; then
            [[ $word != *=* && " $options" == *" $word="* ]] && skip=$word
        elif [[ ! $command || $command == @(container|image|system) ]]; then
            command="${command:+$command }$word"
            _rl_declared "$command"
        else
            place=$((place + 1))
            [[ $arguments == *+* ]] && ended=1
        fi
    done
    if [[ $skip ]]; then
        kind=" $options "
        kind=${kind#* "$skip"=}
        _rl_offer "${kind%% *}" "$current"
    elif [[ $words && $current != -* ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
    elif [[ $current == --*=* && ! $ended ]]; then
        kind=" $options "
        [[ $kind == *" ${current%%=*}="* ]] || return
        kind=${kind#* "${current%%=*}"=}
        _rl_offer "${kind%% *}" "${current#*=}"
    elif [[ $current == -* && ! $ended ]]; then
        set -f
        for word in $options; do
            COMPREPLY+=("${word%%=*}")
        done
        set +f
        COMPREPLY=($(compgen -W "${COMPREPLY[*]}" -- "$current"))
    else
        read -ra words <<<"$arguments"
        ((place >= ${#words[@]} && ${#words[@]})) && place=$((${#words[@]} - 1))
        kind=${words[place]}
        if [[ $kind == +* ]]; then
            compopt -o default
        else
            _rl_offer "${kind#\*}" "$current"
        fi
    fi
    # Readline takes `:` and `=` for the ends of words: what stands before them in this word is there already.
    if [[ $current == *[:=]* && $COMP_WORDBREAKS == *[:=]* ]]; then
        word=${current%"${current##*[:=]}"}
        [[ $current == --*=* ]] && word=${word#*=}
        COMPREPLY=("${COMPREPLY[@]#"$word"}")
    fi
}

complete -F _rl rl
